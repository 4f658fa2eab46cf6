"""The commands for pictures of one's own: sort them, look at them, count them."""

import argparse
import io
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import numpy as np

from mixem.cli.options import given, given_path, max_pixels_option, output, whole_number
from mixem.errors import InputError, printable

if TYPE_CHECKING:
    from torch import Tensor

    from mixem.data import ImageSet
    from mixem.methods import Method
    from mixem.runs import Run
    from mixem.sorting import ClusterTable

__all__ = ["add_commands"]

FEW = 100  # pictures: below, a network that normalises with the pictures given is unsure
LARGEST_SIDE = 16_384  # pixels of a picture that is mapped
NAMED = 5  # skipped files that are named; the rest is a number


def add_commands(command: Any, device_option: Any) -> None:
    """Add ``predict``, ``sort``, ``embed``, ``map``, ``choose-k`` and ``cache`` to the parser.

    Args:
        command: Makes a command of a name, a function and a line of help.
        device_option: Gives a command ``--device``.
    """
    predict = command("predict", _predict, "sort pictures with a finished run")
    predict.add_argument("run", type=given_path, help="folder of the run")
    _places(predict)
    predict.add_argument(
        "--clusters", type=whole_number(1),
        help="another number of clusters, by k-means on the features of the run",
    )  # fmt: skip
    predict.add_argument(
        "--out", type=output,
        help="CSV file (default: the terminal); of a run that sorts pixels, folder of the maps",
    )  # fmt: skip
    _results(predict)
    predict.add_argument(
        "--overlay", action="store_true", help="also write each picture under its map"
    )
    predict.add_argument(
        "--side", type=whole_number(16, LARGEST_SIDE),
        help="shorter side in pixels of the pictures that are mapped (default: as in training)",
    )  # fmt: skip
    device_option(predict)

    sort = command("sort", _sort, "sort a folder by a pretrained network: nothing else is needed")
    sort.add_argument("pictures", nargs=1, type=given, help="folder of pictures")
    sort.add_argument("--out", type=given_path, required=True, help="folder for table and page")
    sort.add_argument(
        "--clusters", type=whole_number(2), help="how many (default: a number is proposed)"
    )
    sort.add_argument(
        "--network", type=given, default="efficientnet-lite0",
        help="efficientnet-lite0 (default), efficientnet-lite2, torchvision:NAME or timm:NAME",
    )  # fmt: skip
    sort.add_argument("--weights", type=given_path, help="file with the weights of the network")
    sort.add_argument("--seed", type=whole_number(0, 2**63 - 1), default=0)
    sort.add_argument("--data", type=given_path, help="where features are kept")
    max_pixels_option(sort)
    sort.add_argument("--quiet", action="store_true", help="no progress bar")
    how = sort.add_mutually_exclusive_group()
    how.add_argument("--copy", action="store_true", help="copy the pictures into OUT/pictures")
    how.add_argument("--link", action="store_true", help="or put symbolic links there")
    device_option(sort)

    embed = command("embed", _embed, "write the features of pictures to a file")
    _source(embed)
    embed.add_argument("--out", type=given_path, required=True, help="features.npy, or .csv")
    device_option(embed)

    choose = command("choose-k", _choose_k, "try numbers of clusters, and propose one")
    _source(choose)
    choose.add_argument(
        "--from", type=whole_number(2), default=2, dest="first", help="least k (default: 2)"
    )
    choose.add_argument(
        "--to", type=whole_number(2), default=20, dest="last", help="largest k (default: 20)"
    )
    choose.add_argument("--plot", type=given_path, help="picture of the signals, such as k.png")
    device_option(choose)

    picture_map = command("map", _map, "draw a map on which similar pictures are neighbours")
    _source(picture_map)
    picture_map.add_argument("--out", type=given_path, required=True, help="map.png")
    picture_map.add_argument(
        "--most", type=whole_number(4), default=2000, help="pictures (default: 2000)"
    )
    device_option(picture_map)

    cache = command("cache", _cache, "list the decoded folders that are kept, or delete them")
    cache.add_argument("--data", type=given_path, help="where they lie (default: as for training)")
    cache.add_argument("--delete", action="store_true", help="delete all of them")


def _places(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("pictures", nargs="+", type=given, help="a folder of pictures, or pictures")
    parser.add_argument("--data", type=given_path, help="folder of the cache of large folders")
    max_pixels_option(parser)


def _source(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "network",
        type=given,
        help="folder of a finished run, or a pretrained network: efficientnet-lite0, "
        "efficientnet-lite2, torchvision:NAME, timm:NAME",
    )
    _places(parser)
    parser.add_argument("--weights", type=given_path, help="file with the weights of the network")


def _results(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--gallery", type=given_path, help="a page to look at, such as gallery.html"
    )
    parser.add_argument("--sort-into", type=given_path, help="folder for a folder of each cluster")
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--copy", action="store_true", help="copy into them (default)")
    how.add_argument("--link", action="store_true", help="put symbolic links there")


@dataclass(frozen=True)
class Pictures:
    """Pictures of one's own, decoded.

    Attributes:
        images: The pictures.
        folder: What their paths begin at.
    """

    images: "ImageSet"
    folder: Path


def load_pictures(
    places: list[str], *, size: int, channels: int, root: Path | None, pad: bool
) -> Pictures:
    """A folder, given as PATH or ``folder:PATH``, or single pictures.

    Raises:
        InputError: If nothing is there that can be read, or folders and pictures are mixed.
    """
    from mixem.data import ImageSet, decode, load_images

    paths = [_path(place) for place in places]
    folders = [path for path in paths if path.is_dir()]
    if len(paths) == 1 and not paths[0].is_file():
        images = load_images(
            f"folder:{paths[0]}", split="all", root=root, size=size, channels=channels, pad=pad
        )
        return Pictures(images, paths[0])
    if folders:
        raise InputError(f"{folders[0]} is a folder among others; give one folder, or pictures")
    import torch

    home = paths[0].resolve().parent
    pixels, files, skipped = [], [], []
    for path in paths:
        place = path.resolve()
        name = place.relative_to(home).as_posix() if place.is_relative_to(home) else str(place)
        try:
            pixels.append(decode(path, size, channels, pad=pad))
            files.append(name)
        except InputError as error:
            skipped.append((name, str(error)))
    if not pixels:
        raise InputError(f"no picture could be read: {skipped[0][0]}: {skipped[0][1]}")
    stacked = torch.from_numpy(np.stack(pixels))
    images = ImageSet(stacked, name="pictures", files=tuple(files), skipped=tuple(skipped))
    return Pictures(images, home)


def _path(place: str) -> Path:
    """The path in PATH or ``folder:PATH``."""
    from mixem.data import folder_path
    from mixem.data.root import expanded

    return expanded(folder_path(place) or place)


def report_skipped(images: "ImageSet") -> None:
    """Say in a few lines what was not read, and what is worth knowing."""
    for name, why in images.skipped[:NAMED]:
        print(f"mixem: skipped {printable(name)}: {why}", file=sys.stderr)
    if len(images.skipped) > NAMED:
        print(f"mixem: skipped {len(images.skipped) - NAMED} more files", file=sys.stderr)
    if images.passed_over:
        counts = (f"{count} {ending or 'without ending'}" for ending, count in images.passed_over)
        others = ", ".join(counts)
        print(f"mixem: no pictures by their ending, and not read: {others}", file=sys.stderr)
    for note in images.notes:
        print(f"mixem: {note}", file=sys.stderr)


def _predict(options: argparse.Namespace) -> int:
    from mixem.devices import resolve_device
    from mixem.methods import extract
    from mixem.runs import load_run
    from mixem.sorting import table, write_table

    finished = load_run(options.run)
    method = finished.method.to(resolve_device(options.device))
    if method.sorts == "pixels":
        if options.clusters is not None:
            raise InputError("--clusters is for runs that sort whole pictures; leave it out")
        return _predict_maps(options, method)
    if options.overlay or options.side is not None:
        raise InputError(
            f"{finished.record.experiment} sorts whole pictures; leave --overlay and --side out"
        )
    if options.out and options.out.folder:
        raise InputError(f"--out is the folder {options.out}; give a file, as {options.out}/a.csv")
    pictures = _seen_by(finished, options)
    images = pictures.images
    names = finished.record.data.class_names
    if options.clusters is not None:
        found = table(images.files, distances=_anew(method, images.images, options.clusters))
    elif method.clusters_itself:
        found = table(
            images.files, probabilities=extract(method, images.images, "cluster"), names=names
        )
    else:
        found = table(images.files, distances=extract(method, images.images, "distances"))
    if options.out:
        write_table(found, options.out)
    elif not (options.gallery or options.sort_into):
        write_table(found, _for_csv())
    if method.needs_a_batch and len(images) < FEW:
        print(
            f"mixem: this network normalises with the pictures given together, and {len(images)} "
            "are few: the clusters may be wrong; give a hundred or more",
            file=sys.stderr,
        )
    note, pad = f"Sorted by {finished.record.experiment}.", finished.experiment.views.pad
    _show(found, pictures, options, note=note, pad=pad)
    report_skipped(images)
    print(f"mixem: {len(images)} pictures sorted, {len(images.skipped)} skipped", file=sys.stderr)
    return 0


def _for_csv() -> TextIO:
    """The standard output; in a file or a pipe it is UTF-8 and keeps the bytes of names."""
    if isinstance(sys.stdout, io.TextIOWrapper) and not sys.stdout.isatty():
        sys.stdout.reconfigure(encoding="utf-8", errors="surrogateescape")
    return sys.stdout


def _seen_by(finished: "Run", options: argparse.Namespace) -> Pictures:
    """Pictures as a run takes them: pixels, or features by the same network."""
    from mixem.data import network_of

    _, network = network_of(finished.experiment.images)
    if not network:
        channels, size = finished.pictures()
        pad = finished.experiment.views.pad
        return load_pictures(
            options.pictures, size=size, channels=channels, root=options.data, pad=pad
        )
    if len(options.pictures) > 1 or Path(options.pictures[0]).is_file():
        raise InputError("a run on features takes one folder; give it instead of single pictures")
    options.network, options.weights = network, None
    images, folder = _vectors(options.pictures[0], options)
    if images.origin["weights"] != finished.record.data.origin.get("weights"):
        raise InputError(
            f"the run was trained on features by other weights of {network} than those at hand; "
            "sort with these weights anew"
        )
    return Pictures(images, folder)


def _anew(method: "Method", images: "Tensor", k: int) -> "Tensor":
    """Distances ``(N, k)`` of the features of pictures to k new centres, found on them."""
    import torch
    import torch.nn.functional as F

    from mixem.clustering import kmeans
    from mixem.methods import extract

    vectors = F.normalize(extract(method, images), dim=1)
    return torch.cdist(vectors, torch.from_numpy(kmeans(vectors, k).centres).float())


def _predict_maps(options: argparse.Namespace, method: "Method") -> int:
    """A map of each picture, and the share of each cluster in it."""
    from mixem.sorting import map_pictures, write_map, write_shares

    if options.gallery or options.sort_into:
        raise InputError("this run sorts pixels, not pictures; leave --gallery and --sort-into out")
    if options.overlay and not options.out:
        raise InputError("--overlay was given without --out; give a folder for the maps")
    side = options.side or method.views.plain_side or method.views.size
    folder, files = _files(options.pictures)
    rows, skipped = [], 0
    for found in map_pictures(method, folder, files, side=side):
        if isinstance(found, tuple):
            skipped += 1
            name, why = found
            print(f"mixem: skipped {printable(name)}: {why}", file=sys.stderr)
            continue
        rows.append((found.file, found.shares(method.clusters)))
        if options.out:
            write_map(found, options.out, k=method.clusters, overlay=options.overlay)
    if not rows:
        raise InputError(f"none of {skipped} pictures could be read")
    write_shares(rows, options.out / "shares.csv" if options.out else _for_csv())
    print(f"mixem: {len(rows)} pictures mapped, {skipped} skipped", file=sys.stderr)
    return 0


def _files(places: list[str]) -> tuple[Path, tuple[str, ...]]:
    """Folder and files of a folder of pictures, or of single ones."""
    from mixem.data.folder import list_pictures

    paths = [_path(place) for place in places]
    if len(paths) == 1 and not paths[0].is_file():
        files = list_pictures(paths[0])
        if not files:
            raise InputError(f"no picture in {str(paths[0])!r}; give a folder of pictures")
        return paths[0], files
    homes = {path.resolve().parent for path in paths}
    if len(homes) > 1 or any(path.is_dir() for path in paths):
        raise InputError("give one folder, or pictures of one folder")
    return homes.pop(), tuple(path.name for path in paths)


def _sort(options: argparse.Namespace) -> int:
    from mixem.sorting import (
        choose_k,
        gallery,
        near_duplicates,
        sort_into,
        table,
        train_heads,
        write_table,
    )  # fmt: skip

    images, folder = _vectors(options.pictures[0], options)
    report_skipped(images)
    files, vectors = images.files, images.images.float().numpy()
    k = options.clusters
    if k is None:
        choice = choose_k(vectors, range(2, min(20, len(vectors) // 4) + 1))
        k = choice.k or 10
        print(f"mixem: {choice.reason} Sorted into {k}; --clusters gives another number.")
    found = train_heads(
        images,
        k,
        seed=options.seed,
        out=options.out / f"run-{k}-seed{options.seed}",
        progress=not options.quiet,
    )
    rows = table(files, found.clusters, logits=found.logits)
    write_table(rows, options.out / "clusters.csv")
    gallery(
        options.out / "gallery.html",
        rows,
        folder=folder,
        notes=(f"{options.network}, {len(found.losses)} heads, those of the lowest losses count.",),
        alike=near_duplicates(vectors),
    )
    if options.copy or options.link:
        place = options.out / "pictures"
        sort_into(place, rows, folder=folder, how="link" if options.link else "copy")
    sizes = ", ".join(str(size) for size in sorted(rows.sizes, reverse=True))
    print(f"{len(files)} pictures in {k} clusters of {sizes}")
    print(f"table and page: {options.out / 'clusters.csv'}, {options.out / 'gallery.html'}")
    return 0


def _show(
    found: "ClusterTable", pictures: Pictures, options: argparse.Namespace, *, note: str, pad: bool
) -> None:
    """The page and the sorted folders, where they are asked for.

    The page shows the files and not what the network saw of them, which may be 16 pixels wide.
    """
    from mixem.sorting import gallery, near_duplicates, sort_into

    if options.gallery:
        gallery(
            options.gallery,
            found,
            folder=pictures.folder,
            pad=pad,
            notes=(note,),
            alike=near_duplicates(pictures.images.images),
            skipped=pictures.images.skipped,
        )
        print(f"mixem: the page is {options.gallery}", file=sys.stderr)
    if options.sort_into:
        done = sort_into(
            options.sort_into,
            found,
            folder=pictures.folder,
            how="link" if options.link else "copy",
        )
        print(
            f"mixem: {done.placed} pictures put into {options.sort_into}, {done.unchanged} were "
            "there already",
            file=sys.stderr,
        )


def _vectors(place: str, options: argparse.Namespace) -> tuple["ImageSet", Path]:
    """A folder as features by a pretrained network, and its path."""
    from mixem.devices import resolve_device
    from mixem.features import load_vectors
    from mixem.models.pretrained import pretrained

    folder = _path(place)
    network = pretrained(options.network, weights=options.weights)
    print(f"mixem: {network.name}, trained on {network.seen}", file=sys.stderr)
    images = load_vectors(
        f"folder:{folder}@{options.network}",
        split="all",
        root=options.data,
        network=network,
        device=resolve_device(options.device),
    )
    return images, folder


def _features(options: argparse.Namespace) -> tuple[np.ndarray, tuple[str, ...], Path, Any]:
    """Features of pictures by a run or a pretrained network, their files, folder, and pixels."""
    from mixem.data.root import data_root
    from mixem.devices import resolve_device

    device = resolve_device(options.device)
    if (Path(options.network) / "config.json").exists():
        from mixem.methods import extract
        from mixem.runs import load_run

        finished = load_run(options.network)
        channels, size = finished.pictures()
        pad = finished.experiment.views.pad
        pictures = load_pictures(
            options.pictures, size=size, channels=channels, root=options.data, pad=pad
        )
        report_skipped(pictures.images)
        vectors = extract(finished.method.to(device), pictures.images.images).numpy()
        return vectors, pictures.images.files, pictures.folder, pictures.images.images
    if Path(options.network).exists() or len(options.pictures) > 1:
        raise InputError(
            f"{options.network} is no finished run; give the --out of one, or the name of a "
            "pretrained network and one folder"
        )
    from mixem.features import features
    from mixem.models.pretrained import pretrained

    folder = _path(options.pictures[0])
    network = pretrained(options.network, weights=options.weights)
    cache = data_root(options.data) / "features"
    found = features(folder, network, cache=cache, device=device)
    print(f"mixem: {network.name}, trained on {network.seen}", file=sys.stderr)
    for name, why in found.skipped[:NAMED]:
        print(f"mixem: skipped {printable(name)}: {why}", file=sys.stderr)
    return np.array(found.vectors, dtype=np.float32), found.files, folder, None


def _embed(options: argparse.Namespace) -> int:
    from mixem.checkpoint import write_atomically

    if options.out.suffix not in (".npy", ".csv"):
        raise InputError(f"--out is {options.out}; give a name that ends in .npy or .csv")
    vectors, files, _, _ = _features(options)

    def write(path: Path) -> None:
        if options.out.suffix == ".npy":
            with path.open("wb") as file:
                np.save(file, vectors)
        else:
            np.savetxt(path, vectors, fmt="%.6g", delimiter=",")

    write_atomically(options.out, write)
    names = options.out.with_suffix(".files.txt")
    text = "".join(f"{name!r}\n" if "\n" in name else f"{name}\n" for name in files)
    write_atomically(
        names, lambda path: path.write_text(text, encoding="utf-8", errors="surrogateescape")
    )
    print(f"{len(vectors)} x {vectors.shape[1]} numbers in {options.out}, files in {names}")
    return 0


def _choose_k(options: argparse.Namespace) -> int:
    from mixem.records import Table
    from mixem.sorting import choose_k, k_panels

    vectors, _, _, _ = _features(options)
    last = min(options.last, len(vectors) // 4)
    if last < options.first:
        raise InputError(
            f"--from {options.first} --to {options.last} with {len(vectors)} pictures; give "
            f"numbers from 2 to a quarter of the pictures, here {len(vectors) // 4}"
            if len(vectors) >= 8
            else f"{len(vectors)} pictures are too few to try numbers of clusters; give at least 8"
        )
    choice = choose_k(vectors, range(options.first, last + 1))
    rows = tuple((str(row.k), *(f"{value:.3f}" for value in row[1:])) for row in choice.rows)
    print(Table(("k", *type(choice.rows[0])._fields[1:]), rows))
    print(choice.reason)
    if options.plot:
        k_panels(choice).savefig(options.plot)
        print(f"drawn in {options.plot}")
    return 0


def _map(options: argparse.Namespace) -> int:
    from mixem.sorting import map_places, picture_map

    vectors, files, folder, pixels = _features(options)
    places, rows = map_places(vectors, most=options.most)
    picture_map(options.out, places, rows, folder=folder, files=files, images=pixels)
    print(f"{len(rows)} pictures in {options.out}")
    return 0


def _cache(options: argparse.Namespace) -> int:
    from mixem.data import delete_caches, list_caches
    from mixem.records import Table

    caches = list_caches(options.data)
    if options.delete:
        print(f"{len(caches)} caches deleted, {delete_caches(caches) / 2**20:,.0f} MiB")
        return 0
    rows = tuple(
        (
            cache.folder or "not known",
            cache.split,
            f"{cache.pictures:,}",
            f"{cache.size} x {cache.size}",
            f"{cache.bytes / 2**20:,.0f}",
            "" if cache.of_use else "folder gone",
        )
        for cache in caches
    )
    print(Table(("folder", "split", "pictures", "size", "MiB", ""), rows))
    return 0
