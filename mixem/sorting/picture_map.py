"""A map of pictures: each is drawn where its features put it."""

import importlib
import io
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from PIL import Image, ImageOps
from sklearn.decomposition import PCA

from mixem.checkpoint import write_atomically
from mixem.clustering import normalise_rows
from mixem.clustering.arrays import as_features, as_integers
from mixem.data.picture import decode
from mixem.data.root import expanded
from mixem.errors import InputError

__all__ = ["map_places", "picture_map"]

COMPONENTS = 50  # principal components that t-SNE and UMAP get
FRAME = 2  # pixels of the frame in the cluster's colour


def map_places(
    features: ArrayLike | torch.Tensor,
    *,
    method: Literal["auto", "t-SNE", "UMAP"] = "auto",
    seed: int = 0,
    most: int = 2000,
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Normalised features in two dimensions: neighbours stay neighbours, distances mean nothing.

    Args:
        features: ``(N, D)``.
        method: "auto" is UMAP if the package umap-learn is installed, else t-SNE.
        seed: Of the choice of pictures and of the map.
        most: Pictures on the map; of more, a random choice.

    Returns:
        Places ``(n, 2)``, and the rows of ``features`` they belong to, ``(n,)`` ascending.

    Raises:
        InputError: If there are fewer than four pictures, or the method is not there.
    """
    installed = find_spec("umap") is not None
    if method not in ("auto", "t-SNE", "UMAP"):
        raise InputError(f"method is {method!r}; give 'auto', 't-SNE' or 'UMAP'")
    if method == "UMAP" and not installed:
        raise InputError("UMAP needs a package: pip install umap-learn; or give t-SNE")
    n = len(features)  # type: ignore[arg-type]
    if n < 4:
        raise InputError(f"a map of {n} pictures; give at least 4")
    rows = np.sort(np.random.default_rng(seed).permutation(n)[:most])
    values = features if hasattr(features, "shape") else np.asarray(features)
    points = normalise_rows(as_features(values[rows]))  # type: ignore[index]
    if min(points.shape) > COMPONENTS:
        points = PCA(COMPONENTS, random_state=seed).fit_transform(points)
    if method == "t-SNE" or not installed:
        from mixem.plots import project  # here, for the drawing takes long to import

        return project(points, seed=seed, most=most)[0], rows
    umap: Any = importlib.import_module("umap")
    model = umap.UMAP(n_neighbors=min(15, len(rows) - 1), random_state=seed, n_jobs=1)
    return np.asarray(model.fit_transform(points), dtype=np.float64), rows


def picture_map(
    path: str | Path,
    places: ArrayLike,
    rows: ArrayLike,
    *,
    folder: str | Path | None = None,
    files: Sequence[str] = (),
    images: torch.Tensor | None = None,
    clusters: ArrayLike | torch.Tensor | None = None,
    side: int = 2400,
    thumbnail: int = 48,
) -> None:
    """Draw pictures at their places, each framed in the colour of its cluster, as a PNG file.

    Later rows cover earlier ones where they overlap. A file that cannot be read any more is left
    out.

    Args:
        path: The file to write, which is replaced in one step.
        places: ``(n, 2)``, as :func:`map_places` gives.
        rows: ``(n,)`` numbers of the pictures.
        folder: What the files' paths begin at, if there are no ``images``.
        files: Of all N pictures, if there are no ``images``.
        images: uint8 ``(N, C, h, w)``.
        clusters: ``(N,)``; without them there are no frames.
        side: Pixels of the map's sides.
        thumbnail: Pixels of a picture's longer side.

    Raises:
        InputError: If there is neither a folder nor images, or the lengths do not fit.
    """
    where, numbers = as_features(places, "places"), as_integers(rows, "rows", lowest=0)
    if where.shape != (len(numbers), 2):
        raise InputError(
            f"places of shape {where.shape} for {len(numbers)} pictures; give two each"
        )
    if images is None and (folder is None or not files):
        raise InputError("neither images nor folder and files given; give pictures to draw")
    total = len(files) if images is None else len(images)
    groups = None if clusters is None else as_integers(clusters, "clusters", lowest=0)
    if numbers.max() >= total or (groups is not None and len(groups) != total):
        raise InputError(
            f"{total} pictures do not fit the rows or the clusters; give the same ones"
        )
    if not thumbnail + 2 * FRAME < side:
        raise InputError(f"thumbnails of {thumbnail} pixels on a map of {side}; give smaller ones")
    colours: Sequence[Any] = ()
    if groups is not None:
        from mixem.plots.style import class_colours

        colours = class_colours(int(groups.max()) + 1)
    span = np.maximum(np.ptp(where, axis=0), 1e-12)
    room = side - thumbnail - 2 * FRAME
    corners = ((where - where.min(axis=0)) / span * room).round().astype(int)
    canvas = Image.new("RGB", (side, side), "white")
    for i, (x, y) in zip(numbers.tolist(), corners.tolist(), strict=True):
        try:
            if images is not None:
                pixels = images[i].cpu().numpy()
            else:
                pixels = decode(expanded(folder or ".") / files[i], thumbnail, 3)
        except InputError:
            continue
        picture = Image.fromarray(pixels[0] if len(pixels) == 1 else pixels.transpose(1, 2, 0))
        picture = ImageOps.contain(picture.convert("RGB"), (thumbnail, thumbnail))
        if groups is not None:
            picture = ImageOps.expand(picture, FRAME, colours[groups[i]])
        canvas.paste(picture, (x, room - y))  # upwards, as in a figure
    file = io.BytesIO()
    canvas.save(file, "PNG")
    write_atomically(expanded(path), lambda place: place.write_bytes(file.getvalue()))
