"""Features of many pictures by a frozen network: computed once, kept on disk, mapped.

They are written batch by batch. A process that was killed goes on after the last whole batch, and
batches are always the same, so that the file is the same, too.
"""

import hashlib
import json
import os
import time
import warnings
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import IO, Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps
from torch import nn

from mixem.checkpoint import read_json, write_json
from mixem.data import ImageSet, check_vectors, folder_path, load_images, network_of
from mixem.data.checks import shared
from mixem.data.folder import file_state, list_folder, list_pictures
from mixem.data.picture import open_picture, optional_readers, raised_limit
from mixem.data.root import data_root, expanded
from mixem.devices import resolve_precision
from mixem.errors import InputError
from mixem.folding import folded
from mixem.lock import locked
from mixem.models.pretrained import Preprocessing, Pretrained, pretrained
from mixem.progress import bar

__all__ = ["Features", "features", "load_vectors", "prepare"]

VERSION = 2  # part of the key; to be raised when the same pictures give other features
DECODING = b"2"  # part of the key of a folder; to be raised when its pictures decode differently
AHEAD = 2  # batches a worker that are begun before they are asked for
GREY = 127  # what a picture is padded with: about 0 for the network
RESAMPLING = {"bicubic": Image.Resampling.BICUBIC, "bilinear": Image.Resampling.BILINEAR}

Picture = Callable[[], Image.Image]


@dataclass(frozen=True, eq=False)
class Features:
    """Features of the pictures that could be read.

    Attributes:
        vectors: float16 ``(N, D)``, mapped from a file, not to be written to.
        files: For a folder, the path of each picture below it; else ().
        skipped: For a folder, path and reason of each file that could not be read; else ().
        folder: Where they lie; its name is the key.
        description: The network, the digest of its weights, the preprocessing and so on.
        seconds: That computing them took, or would have taken at the speed of the last sitting if
            there were several; None if that is not known.
    """

    vectors: NDArray[np.float16]
    files: tuple[str, ...]
    skipped: tuple[tuple[str, str], ...]
    folder: Path
    description: dict[str, object]
    seconds: float | None = None


def features(
    pictures: ImageSet | str | Path,
    network: Pretrained,
    *,
    cache: str | Path,
    size: int | None = None,
    fit: Literal["pad", "crop"] = "pad",
    precision: Literal["auto", "bfloat16", "float32"] = "auto",
    batch_size: int = 8,
    device: str | torch.device = "cpu",
    workers: int | None = None,
    progress: bool = True,
) -> Features:
    """The features of a set of images, or of all pictures at any depth below a folder.

    What was computed before is read again if nothing has changed: the pictures (the pixels of a
    set; names, sizes and times of a folder's files), the network, its weights, and everything
    below that changes a number. Otherwise it is computed anew, in a folder of its own.

    Args:
        pictures: An image set, or the path of a folder.
        network: From ``mixem.models.pretrained``.
        cache: Folder that the features are kept in.
        size: Height and width that the network sees; by default what comes with it.
        fit: "pad" shows the whole picture on grey; "crop" cuts out the centre, as for the
            network's own scores.
        precision: Of the network. bfloat16 is several times as fast where the device has
            instructions for it, and several times as slow on a processor without; "auto" is the
            faster one.
        batch_size: Pictures at a time. On a CPU small batches are faster: what the layers hand on
            stays in the cache.
        device: Where the network computes.
        workers: Threads, each of which decodes batches and sends them through the network; by
            default one a processor.
        progress: Show a bar.

    Returns:
        What is kept, in float16 on disk, which is 0.15 GB for 60,000 pictures of 1,280 numbers.

    Raises:
        InputError: If there is no such folder or no readable picture, a number does not fit, the
            kept features are damaged, a feature is too large for float16, or the disk is full:
            then what is there is kept, and the same call goes on.
    """
    size = size or network.preprocessing.size
    if size < 32 or batch_size < 1 or fit not in ("pad", "crop"):
        raise InputError(
            f"size is {size}, batch_size {batch_size} and fit {fit!r}; give at least 32, at least "
            "1, and 'pad' or 'crop'"
        )
    if precision == "auto":
        precision = "bfloat16" if _quick_in_bfloat16(torch.device(device)) else "float32"
    dtype = {"bfloat16": torch.bfloat16, "float32": torch.float32}.get(precision)
    if dtype is None:
        raise InputError(f"precision is {precision!r}; give 'auto', 'bfloat16' or 'float32'")
    names, opened, fingerprint = _listed(pictures, size)
    description = {
        "version": VERSION,
        "pictures": fingerprint,
        "count": len(opened),
        "network": network.name,
        "weights": network.digest,
        "preprocessing": asdict(network.preprocessing),
        "size": size,
        "fit": fit,
        "precision": precision,
        "batch_size": batch_size,
        "width": network.out_features,
    }
    key = hashlib.sha256(json.dumps(description, sort_keys=True).encode()).hexdigest()[:32]
    folder = Path(cache) / key

    def pixels(picture: Picture) -> NDArray[np.uint8]:
        return prepare(picture(), network.preprocessing, size=size, fit=fit)

    if not (folder / "features.json").exists():
        with locked(folder):  # two processes would write one file in turn
            noise = torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(0))
            net = folded(network.network, noise).to(device, dtype)
            net = net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
            scale = [
                torch.tensor(values, device=device).view(1, -1, 1, 1)
                for values in (network.preprocessing.mean, network.preprocessing.std)
            ]
            seconds = _compute(
                folder,
                opened,
                pixels,
                lambda batch: _embed(net, batch, scale[0], scale[1], dtype),
                width=network.out_features,
                batch_size=batch_size,
                workers=workers or os.cpu_count() or 1,
                progress=progress,
            )
            _finish(folder, names, opened, pixels, description, seconds)
    return _open(folder)


def _quick_in_bfloat16(device: torch.device) -> bool:
    """A GPU, or a processor that multiplies bfloat16 as such (AVX512-BF16 or AMX)."""
    if device.type != "cpu":
        return resolve_precision("auto", device) == "bfloat16"
    known = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")  # not in every version
    return any(getattr(torch.cpu, name, bool)() for name in known)


def load_vectors(
    name: str,
    *,
    split: str,
    root: str | Path | None = None,
    download: bool = False,
    network: Pretrained | None = None,
    device: str | torch.device = "cpu",
    progress: bool = True,
) -> ImageSet:
    """A set of images as vectors, by the name "IMAGES@NETWORK".

    The features are computed if they are not kept already, below ``features`` in ``root``.

    Args:
        name: Such as ``cifar10@efficientnet-lite0`` or ``folder:PATH@timm:NAME``.
        split: See :func:`mixem.data.load_images`. A folder's features are computed for all of its
            splits at once.
        root: Folder of the data sets, and of what is kept.
        download: Fetch the data set if it is not there.
        network: The network itself, with weights of one's own, instead of the one by name.
        device: Where features are computed.
        progress: Show a bar.

    Raises:
        InputError: See :func:`features` and :func:`mixem.data.load_images`.
    """
    what, known = network_of(name)
    network = network or pretrained(known)
    cache = data_root(root) / "features"
    if path := folder_path(what):
        found = features(path, network, cache=cache, device=device, progress=progress)
        listed = list_folder(path, split=split, bad=dict(found.skipped))
        row = {file: i for i, file in enumerate(found.files)}
        vectors = shared(found.vectors[[row[file] for file in listed.files]])
        parts: dict[str, Any] = listed._asdict() | {"images": vectors}
    else:
        images = load_images(what, split=split, root=root, download=download)
        found = features(images, network, cache=cache, device=device, progress=progress)
        vectors = shared(found.vectors)
        parts = {"images": vectors, "labels": images.labels, "class_names": images.class_names}
    check_vectors(vectors)
    if len(vectors) > 1 and bool((vectors == vectors[0]).all()):
        raise InputError(
            f"all {len(vectors)} pictures of {what} have the same features, so there is nothing to "
            "tell apart; give different pictures"
        )
    about = found.description
    origin = {
        "network": network.name,
        "weights": network.digest,
        "source": network.source,
        "seen": network.seen,
        "licence": network.licence,
        "pictures": about["pictures"],
        "size": about["size"],
        "fit": about["fit"],
        "precision": about["precision"],
        "minutes": None if found.seconds is None else round(found.seconds / 60, 2),
    }
    return ImageSet(name=name, split=split, origin=origin, **parts)


def prepare(
    picture: Image.Image, preprocessing: Preprocessing, *, size: int, fit: str
) -> NDArray[np.uint8]:
    """The square that the network sees, before it is normalised.

    Args:
        picture: Upright, RGB.
        preprocessing: Of the network; its interpolation, and the share it crops.
        size: Height and width of the result.
        fit: "pad" or "crop", see :func:`features`.

    Returns:
        uint8 ``(size, size, 3)``.
    """
    resampling = RESAMPLING[preprocessing.interpolation]
    if fit == "pad":
        square = ImageOps.pad(picture, (size, size), resampling, color=(GREY,) * 3)
    else:
        side = min(picture.size) * preprocessing.crop
        left, top = (picture.width - side) / 2, (picture.height - side) / 2
        square = picture.resize((size, size), resampling, box=(left, top, left + side, top + side))
    return np.asarray(square)


def _listed(
    pictures: ImageSet | str | Path, size: int
) -> tuple[tuple[str, ...], list[Picture], str]:
    """Names, how to open each picture, and what tells these pictures from others."""
    if isinstance(pictures, ImageSet):
        images = pictures.images
        if not len(images):
            raise InputError(f"the set {pictures.name!r} has no images")
        return (), [partial(_from_pixels, image) for image in images], pictures.fingerprint
    root = expanded(pictures)
    names = list_pictures(root)
    if not names:
        raise InputError(
            f"no picture in {str(root)!r}; give a folder with files that end in .jpg, .png, ..."
        )
    paths = [root / name for name in names]
    digest = hashlib.sha256(DECODING)
    for name, path in zip(names, paths, strict=True):
        digest.update(json.dumps([name, *file_state(path)]).encode())
    for more in (raised_limit(), *optional_readers(names)):
        digest.update(str(more or "").encode())
    return names, [partial(open_picture, path, size) for path in paths], digest.hexdigest()


def _from_pixels(image: torch.Tensor) -> Image.Image:
    """A picture from uint8 ``(C, H, W)``."""
    values = image.cpu().permute(1, 2, 0).numpy()
    return Image.fromarray(values[..., 0] if values.shape[2] == 1 else values).convert("RGB")


def _embed(
    net: nn.Module,
    batch: NDArray[np.uint8],
    mean: torch.Tensor,
    std: torch.Tensor,
    dtype: torch.dtype,
) -> NDArray[np.float16]:
    """Features ``(n, D)`` of pixels ``(n, size, size, 3)``."""
    x = torch.from_numpy(batch).to(mean.device).permute(0, 3, 1, 2)  # channels last, as it is
    with torch.inference_mode():
        y = net(((x / 255 - mean) / std).to(dtype)).float().cpu().numpy()
    with np.errstate(over="ignore"):
        short = y.astype(np.float16)
    if not np.isfinite(short).all():
        raise InputError(
            "the network gives features that are no numbers below 65,504; give precision "
            "'float32', or other weights"
        )
    return short


def _compute(
    folder: Path,
    opened: list[Picture],
    pixels: Callable[[Picture], NDArray[np.uint8]],
    embed: Callable[[NDArray[np.uint8]], NDArray[np.float16]],
    *,
    width: int,
    batch_size: int,
    workers: int,
    progress: bool,
) -> float:
    """Write the features of all pictures, NaN where one cannot be read, from where it stopped.

    Returns:
        Seconds for all pictures, at the speed of this sitting.
    """

    def attempt(picture: Picture) -> NDArray[np.uint8] | None:
        try:
            return pixels(picture)
        except InputError:
            return None
        except OSError as error:
            raise InputError(
                f"a picture cannot be read now: {error.strerror}; that is a fault of the machine, "
                "mend it and try again"
            ) from error

    def work(batch: list[Picture]) -> NDArray[np.float16]:
        squares = [attempt(picture) for picture in batch]
        vectors = np.full((len(batch), width), np.nan, np.float16)
        if good := [i for i, square in enumerate(squares) if square is not None]:
            vectors[good] = embed(np.stack([square for square in squares if square is not None]))
        return vectors

    row = 2 * width
    done = 0
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / "vectors").open("ab") as file:
            done = min(file.tell() // row, len(opened))
            if done < len(opened):
                done -= done % batch_size
            file.truncate(done * row)
            before, began = done, time.monotonic()
            starts = range(done, len(opened), batch_size)
            with (
                ThreadPoolExecutor(workers, "features", torch.set_num_threads, (1,)) as pool,
                _one_thread_each(),
                bar(len(opened), "features", initial=done, show=progress) as shown,
                warnings.catch_warnings(),
            ):
                # Pillow warns of large pictures and of odd metadata, which is of no use here.
                warnings.simplefilter("ignore")
                ahead: deque[Future[NDArray[np.float16]]] = deque()
                try:
                    for start in starts:
                        ahead.append(pool.submit(work, opened[start : start + batch_size]))
                        if len(ahead) > AHEAD * workers:
                            done += _write(file, ahead.popleft().result(), shown)
                    while ahead:
                        done += _write(file, ahead.popleft().result(), shown)
                finally:
                    pool.shutdown(wait=True, cancel_futures=True)
            os.fsync(file.fileno())
        return (time.monotonic() - began) * len(opened) / max(1, done - before)
    except OSError as error:
        raise InputError(
            f"features cannot be written to {str(folder)!r} ({error.strerror or error}); "
            f"{done} of {len(opened)} are kept: free space there and call again"
        ) from error


@contextmanager
def _one_thread_each() -> Iterator[None]:
    """Inside, an operation of torch is one thread's; several share the batches, not one batch."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _write(file: IO[bytes], vectors: NDArray[np.float16], shown: Any) -> int:
    """Append the features of a batch; how many they are."""
    file.write(vectors.tobytes())
    file.flush()
    shown.update(len(vectors))
    return len(vectors)


def _finish(
    folder: Path,
    names: tuple[str, ...],
    opened: list[Picture],
    pixels: Callable[[Picture], NDArray[np.uint8]],
    description: dict[str, object],
    seconds: float,
) -> None:
    """Leave out what could not be read, and write the description, which says that all is done.

    Raises:
        InputError: If nothing can be read, or something that could not be read before: then it is
            computed anew the next time, from there on.
    """
    width = int(str(description["width"]))
    vectors = np.memmap(folder / "vectors", np.float16, "r", shape=(len(opened), width))
    skipped = []
    for i in np.flatnonzero(np.isnan(vectors[:, 0])):
        try:
            pixels(opened[i])
        except InputError as error:
            skipped.append((names[i], str(error)))
            continue
        except OSError as error:
            raise InputError(
                f"{names[i]!r} cannot be read now: {error.strerror}; mend that and call again"
            ) from error
        batch = int(str(description["batch_size"]))
        del vectors  # a mapped file cannot be cut everywhere
        os.truncate(folder / "vectors", 2 * width * int(i - i % batch))
        raise InputError(
            f"{names[i]!r} could not be read before and can be now; call again to go on from there"
        )
    if len(skipped) == len(opened):
        first = "; ".join(f"{name!r}: {reason}" for name, reason in skipped[:3])
        raise InputError(f"none of the {len(opened)} pictures is readable: {first}")
    bad = {name for name, _ in skipped}
    good = [name for name in names if name not in bad]
    found = {"files": good, "skipped": skipped, "seconds": round(seconds, 1)}
    write_json(folder / "features.json", {"description": description, **found})


def _open(folder: Path) -> Features:
    """Map what is finished."""
    whole = read_json(folder / "features.json")
    description = whole["description"]
    shape = (description["count"], description["width"])
    path = folder / "vectors"
    if not path.is_file() or path.stat().st_size != 2 * shape[0] * shape[1]:
        raise InputError(f"the features in {str(folder)!r} are damaged; delete that folder")
    vectors: NDArray[np.float16] = np.memmap(path, np.float16, "r", shape=shape)
    if whole["skipped"]:
        vectors = vectors[~np.isnan(vectors[:, 0])]
    return Features(
        vectors,
        tuple(whole["files"]),
        tuple((name, reason) for name, reason in whole["skipped"]),
        folder,
        description,
        whole.get("seconds"),
    )
