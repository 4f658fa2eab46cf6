"""Pictures of one's own with a mask each."""

import warnings
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from mixem.data.folder import Folder, read_folder
from mixem.data.picture import of_the_machine, upright_size
from mixem.data.root import expanded
from mixem.errors import InputError

IGNORED = 255  # in a mask: a pixel whose class nobody says, as in PASCAL VOC


def read_pairs(
    path: str | Path, *, size: int, channels: int, cache: str | Path | None, memory_limit: int
) -> tuple[Folder, torch.Tensor | None, tuple[str, ...]]:
    """Read the pictures in ``images`` below a folder and their masks in ``masks``, if it is there.

    A mask is a PNG of the picture's size and path, but for the ending: ``masks/a/b.png`` for
    ``images/a/b.jpg``. Its pixels are class numbers (mode "L", "P" or "1"), 255 where nobody
    knows. A picture without a mask is unlabelled. Names of the classes may be given in
    ``classes.txt``, one a line. Picture and mask are resized and cut alike (see
    :func:`mixem.data.decode`), the mask by nearest pixels.

    Args:
        path: The folder.
        size: Height and width.
        channels: 1 or 3.
        cache: See :func:`mixem.data.folder.read_folder`.
        memory_limit: The same.

    Returns:
        The pictures, without labels; masks, uint8 ``(N, size, size)``, None without their folder;
        and the names of the classes.

    Raises:
        InputError: If the pictures' folder is missing, no picture can be read, no mask belongs to
            a picture, or a mask does not fit its picture or the classes.
    """
    root = expanded(path)
    if not (root / "images").is_dir():
        raise InputError(
            f"{str(root)!r} has no folder 'images'; give one with the folders images and masks, or "
            "folder:PATH for pictures without masks"
        )
    folder = read_folder(
        root / "images",
        split="all",
        size=size,
        channels=channels,
        cache=cache,
        memory_limit=memory_limit,
        max_pixels=None,
    )
    folder = folder._replace(labels=None, class_names=())  # sub-folders are not classes here
    if not (root / "masks").is_dir():
        return folder, None, ()
    masks = torch.full((len(folder.files), size, size), IGNORED, dtype=torch.uint8)
    found = 0
    for i, file in enumerate(folder.files):
        mask = (root / "masks" / file).with_suffix(".png")
        if mask.is_file():
            masks[i] = torch.from_numpy(_read_mask(mask, root / "images" / file, size))
            found += 1
    if not found:
        raise InputError(
            f"no mask in {str(root / 'masks')!r} has the name of one of the {len(masks)} pictures; "
            "call the mask of images/one.jpg masks/one.png"
        )
    known = masks[masks != IGNORED]
    count = int(known.max()) + 1 if len(known) else 0
    names = tuple(f"class {number}" for number in range(count))
    listed = root / "classes.txt"
    if listed.is_file():
        names = tuple(filter(None, map(str.strip, listed.read_text("utf-8").splitlines())))
        if count > len(names):
            raise InputError(
                f"a mask has class {count - 1}, but {str(listed)!r} names {len(names)}, from 0 on; "
                f"add names, or write {IGNORED} for pixels to ignore"
            )
    return folder, masks, names


def _read_mask(path: Path, picture: Path, size: int) -> NDArray[np.uint8]:
    """The central square of a mask, ``(size, size)``."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow warns of odd metadata
        try:
            with Image.open(path) as mask:
                mask.load()
        except (OSError, SyntaxError, ValueError) as error:
            if of_the_machine(error):
                raise
            raise InputError(f"the mask {str(path)!r} cannot be read: {error}") from error
        expected = upright_size(picture)
    if mask.mode not in ("1", "L", "P"):
        raise InputError(
            f"the mask {str(path)!r} has mode {mask.mode!r}; "
            "give 8-bit class numbers, of mode 'L' or 'P', not colours"
        )
    if mask.size != expected:
        raise InputError(
            f"the mask {str(path)!r} has {mask.width} x {mask.height} pixels, its picture "
            f"{expected[0]} x {expected[1]}; give masks of their pictures' size"
        )
    values = np.asarray(mask).astype(np.uint8)
    side = min(values.shape)
    # The centres of the new pixels, in pixels of the mask.
    steps = (np.arange(size) + 0.5) * side / size
    rows, columns = ((steps + (length - side) / 2).astype(int) for length in values.shape)
    return values[rows[:, None], columns]
