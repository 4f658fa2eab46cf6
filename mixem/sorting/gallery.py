"""A page that shows a sorting: one HTML file that needs no network and no other file."""

import base64
import hashlib
import io
import json
import os
import warnings
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from html import escape
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from mixem.checkpoint import write_atomically
from mixem.data.picture import decode
from mixem.data.root import expanded
from mixem.errors import InputError
from mixem.progress import bar
from mixem.sorting.page import PAGE, SCRIPT, STYLE
from mixem.sorting.table import ClusterTable

__all__ = ["gallery"]

SIDE = 96  # pixels of a thumbnail
QUALITY = 80  # of its JPEG: some 3 kB
GROUPS, OF_A_GROUP = 20, 6  # near duplicates that are shown
SKIPPED = 200  # unreadable files that are named


def gallery(
    path: str | Path,
    found: ClusterTable,
    *,
    folder: str | Path | None = None,
    images: torch.Tensor | None = None,
    title: str = "Pictures in clusters",
    notes: Sequence[str] = (),
    alike: Sequence[NDArray[np.int64]] = (),
    skipped: Sequence[tuple[str, str]] = (),
    each: int = 12,
    most: int = 1000,
    pad: bool = False,
) -> None:
    """Write a page with the surest and the least sure pictures of each cluster.

    Pictures are shown as small JPEG files in the page, so many that it stays at a few megabytes;
    all names can be searched, and lead to the files if they lie where they lay. Every name is
    escaped, and a content security policy keeps any other script from running.

    Args:
        path: The page to write, which is replaced in one step.
        found: The clusters of the pictures.
        folder: What the files' paths begin at: for the links, and for the thumbnails if there are
            no ``images``. A file that cannot be read any more is shown as an empty square.
        images: uint8 ``(N, C, h, w)`` to take the thumbnails from.
        title: Of the page.
        notes: Lines below the title, such as which network was used.
        alike: Groups of rows, such as near duplicates.
        skipped: Path and reason of files that could not be read.
        each: Most pictures shown as surest, and as many as least sure, in a cluster.
        most: Most thumbnails of clusters altogether; with many clusters each shows fewer.
        pad: Show pictures that are not square whole; see :func:`mixem.data.decode`.

    Raises:
        InputError: If there is neither a folder nor images, or the page cannot be written.
    """
    if folder is None and images is None:
        raise InputError("neither folder nor images given; give one to take thumbnails from")
    if images is not None and (
        images.dtype != torch.uint8 or images.ndim != 4 or len(images) != len(found)
    ):
        raise InputError(
            f"images are {images.dtype} of shape {tuple(images.shape)}; give uint8 "
            f"({len(found)}, C, h, w)"
        )
    page = expanded(path)
    used = int((found.sizes > 0).sum())
    each = max(1, min(each, most // (2 * max(used, 1))))
    members = [found.members(cluster) for cluster in range(found.k)]
    ends = [_ends(rows, each) for rows in members]
    groups = [rows[:OF_A_GROUP] for rows in alike[:GROUPS]]
    shown = sorted(
        {int(i) for rows in (*groups, *(r for pair in ends for r in pair)) for i in rows}
    )
    thumbnails = dict(zip(shown, _thumbnails(shown, found, folder, images, pad), strict=True))
    tiny = images is not None and max(images.shape[2:]) < SIDE // 2
    base = None if folder is None else _base(page, expanded(folder))
    group_of = {int(i): n for n, rows in enumerate(alike) for i in rows}
    place = {int(i): (c, r) for c, rows in enumerate(members) for r, i in enumerate(rows)}

    def figure(i: int, *, note: str = "") -> str:
        name = _shown(found.files[i])
        cluster, rank = place[i]
        if not note and i in group_of:
            note = f"one of {len(alike[group_of[i]])} alike"
        picture = (
            f'<img src="{thumbnails[i]}" alt="{escape(name)}" data-at="{cluster},{rank}"'
            f' loading="lazy" width="{SIDE}" height="{SIDE}"{" class=tiny" if tiny else ""}>'
        )
        if base is not None:
            picture = f'<a href="{escape(base + _encoded(found.files[i]))}">{picture}</a>'
        words = f'<bdi class="name">{escape(name.rpartition("/")[2])}</bdi>'
        words += f'<span class="note">{escape(note)}</span>' if note else ""
        return f'<li title="{escape(name)}">{picture}{words}</li>'

    def row(title: str, rows: Iterable[Any]) -> str:
        items = "".join(figure(int(i)) for i in rows)
        return f'<h3>{title}</h3><ul class="pictures">{items}</ul>' if items else ""

    labels = [_shown(found.names[c]) if found.names else f"Cluster {c}" for c in range(found.k)]
    largest = max(int(found.sizes.max()), 1)
    overview, sections = [], []
    for c, (label, rows, (surest, least)) in enumerate(zip(labels, members, ends, strict=True)):
        share = 100 * len(rows) / len(found)
        overview.append(
            f'<li><a href="#c{c}"><bdi>{escape(label)}</bdi><span>{len(rows):,}</span></a>'
            f'<span class="bar" style="width:{100 * len(rows) / largest:.1f}%"></span></li>'
        )
        names = (
            f'<details data-cluster="{c}"><summary>All {len(rows):,} names, the surest first'
            '</summary><ol class="names"></ol></details>'
        )
        sections.append(
            f'<section aria-labelledby="c{c}"><h2 id="c{c}"><bdi>{escape(label)}</bdi></h2>'
            f"<p>{_count(len(rows), 'picture')}, {share:.1f} % of all{_of_them(surest, least)}</p>"
            + row("Surest" if len(least) else "All of them", surest)
            + row("Least sure", least)
            + (names if len(rows) else "")
            + "</section>"
        )
    data = {
        "base": base,
        "clusters": [
            {"label": label, "files": [found.files[i] for i in rows]}
            for label, rows in zip(labels, members, strict=True)
        ],
    }
    text = PAGE.substitute(
        title=escape(_shown(title)),
        digest=base64.b64encode(hashlib.sha256(SCRIPT.encode()).digest()).decode(),
        style=STYLE,
        script=SCRIPT,
        summary=f"{_count(len(found), 'picture')} in {_count(used, 'cluster')}"
        + (f", {_count(found.k - used, 'cluster')} empty" if used < found.k else "")
        + (f"; {_count(len(skipped), 'file')} could not be read" if skipped else ""),
        notes="".join(f"<p>{escape(_shown(note))}</p>" for note in notes),
        overview="".join(overview),
        alike=_alike(alike, groups, figure, labels, found),
        clusters="\n".join(sections),
        skipped=_skipped(skipped),
        # In a script element only "<" could end it.
        data=json.dumps(data, separators=(",", ":")).replace("<", "\\u003c"),
    )
    write_atomically(page, lambda file: file.write_text(text, encoding="utf-8"))


def _alike(
    alike: Sequence[NDArray[np.int64]],
    groups: Sequence[NDArray[np.int64]],
    figure: Any,
    labels: Sequence[str],
    found: ClusterTable,
) -> str:
    """The section of near duplicates, each with its cluster."""
    if not alike:
        return ""
    count = sum(map(len, alike))
    words = f"{count:,} pictures are alike, in {_count(len(alike), 'group')}"
    words += f", of which the first {len(groups)} are shown" if len(groups) < len(alike) else ""
    rows = []
    for whole, group in zip(alike, groups, strict=False):
        items = "".join(figure(int(i), note=labels[found.clusters[i]]) for i in group)
        more = len(whole) - len(group)
        items += f"<li>and {more:,} more</li>" if more else ""
        rows.append(f'<ul class="pictures group">{items}</ul>')
    return (
        '<section aria-labelledby="alike"><h2 id="alike">Near duplicates</h2>'
        f"<p>{words}.</p>{''.join(rows)}</section>"
    )


def _skipped(skipped: Sequence[tuple[str, str]]) -> str:
    if not skipped:
        return ""
    items = "".join(
        f"<li><bdi>{escape(_shown(name))}</bdi>: {escape(_shown(reason))}</li>"
        for name, reason in skipped[:SKIPPED]
    )
    rest = len(skipped) - SKIPPED
    items += f"<li>and {rest:,} more</li>" if rest > 0 else ""
    return (
        f"<details><summary>{_count(len(skipped), 'file')} could not be read</summary>"
        f'<ol class="names">{items}</ol></details>'
    )


def _of_them(surest: NDArray[np.int64], least: NDArray[np.int64]) -> str:
    """How many pictures of a cluster are to be seen, if not all."""
    return f"; {len(surest) + len(least)} are shown, all are named" if len(least) else ""


def _ends(rows: NDArray[np.int64], each: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The first and the last rows, the last one first; of few rows all are among the first."""
    if len(rows) <= 2 * each:
        return rows, rows[:0]
    return rows[:each], rows[::-1][:each]


def _thumbnails(
    rows: Sequence[int],
    found: ClusterTable,
    folder: str | Path | None,
    images: torch.Tensor | None,
    pad: bool,
) -> list[str]:
    """A data address for each row."""
    Image.init()  # before several threads do

    def thumbnail(i: int) -> str:
        if images is not None:
            pixels = images[i].cpu().numpy()
        else:
            assert folder is not None
            try:
                pixels = decode(expanded(folder) / found.files[i], SIDE, 3, pad=pad)
            except InputError:
                pixels = np.full((3, 1, 1), 128, np.uint8)
        picture = Image.fromarray(pixels[0] if len(pixels) == 1 else pixels.transpose(1, 2, 0))
        picture.thumbnail((SIDE, SIDE))
        file = io.BytesIO()
        picture.save(file, "JPEG", quality=QUALITY)
        return "data:image/jpeg;base64," + base64.b64encode(file.getvalue()).decode()

    with warnings.catch_warnings(), ThreadPoolExecutor(os.cpu_count()) as pool:
        warnings.simplefilter("ignore")  # Pillow's, of large pictures and odd metadata
        made = []
        with bar(len(rows), "thumbnails") as shown:
            for address in pool.map(thumbnail, rows):
                made.append(address)
                shown.update()
        return made


def _base(page: Path, folder: Path) -> str:
    """The address of the folder as seen from the page, with a slash at its end."""
    try:
        # Not resolved: it has to hold for whoever opens the page by the path it was given.
        relative = os.path.relpath(folder.absolute(), page.absolute().parent)
    except ValueError:  # another drive of Windows
        return folder.absolute().as_uri() + "/"
    return "./" + _encoded(relative.replace(os.sep, "/")) + "/"


def _encoded(name: str) -> str:
    return quote(os.fsencode(name))


def _shown(name: str) -> str:
    """A name as text that can be written: bytes that are not UTF-8 become question marks."""
    return name.encode("utf-8", "replace").decode()


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}" + ("" if number == 1 else "s")
