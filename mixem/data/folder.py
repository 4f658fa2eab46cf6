"""Folders of images."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray


def decode(path: str | Path, size: int, channels: int) -> NDArray[np.uint8]:
    """The image of a file as uint8 ``(channels, size, size)``."""
    raise NotImplementedError
