"""The operations of an augmentation, on whole batches with one parameter an image.

Images are float32 ``(N, C, H, W)`` in [0, 1], parameters ``(N,)``, both on one device. Nothing
is random here and nothing waits for the device: no branch depends on a value. Every operation
has a parameter that changes nothing, and gives what torchvision's operation of the same name
gives on a single float image, which the tests hold.

Written for speed on the CPU too. Pixels are passed over as few times as possible, in memory that
is still in the cache: ``out`` may be the images themselves. `torch.where` and comparisons of
large tensors are avoided, because PyTorch does not vectorise them there.
"""

import math
from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F

from mixem.errors import InputError

__all__ = [
    "adjust_brightness",
    "adjust_contrast",
    "adjust_hue",
    "adjust_saturation",
    "affine",
    "crop_matrices",
    "cutout",
    "gaussian_blur",
    "greyscale",
    "linear_colour",
    "luma",
    "normalise",
    "pad_to_square",
    "recolour",
    "resample",
    "resized_crop",
    "transpose",
]

# What a quarter of a turn of the hue, from red to green, makes of red, green and blue less their
# grey value: the chroma plane of YIQ, the coordinates of NTSC television, is turned.
QUARTER_TURN = [[-0.168, -0.330, 0.498], [0.328, -0.035, -0.293], [-1.248, 1.045, 0.203]]


def luma(images: torch.Tensor) -> torch.Tensor:
    """Grey value ``(N, 1, H, W)`` of colour images, with torchvision's ITU-R 601 weights."""
    red, green, blue = images.unbind(1)
    return (red * 0.2989).add_(green, alpha=0.587).add_(blue, alpha=0.114).unsqueeze(1)


def adjust_brightness(
    images: torch.Tensor, factor: torch.Tensor, *, out: torch.Tensor | None = None
) -> torch.Tensor:
    """Multiply each image by its ``factor`` >= 0; 1 changes nothing."""
    return torch.mul(images, _spread(factor), out=out).clamp_(0, 1)


def adjust_contrast(
    images: torch.Tensor, factor: torch.Tensor, *, out: torch.Tensor | None = None
) -> torch.Tensor:
    """Scale each image's distance to its mean grey value by ``factor`` >= 0; 1 changes nothing."""
    mean = images.mean((2, 3), keepdim=True)
    if images.shape[1] == 3:
        mean = luma(mean)
    # Not torch.lerp, which is three times as slow where both arguments are spread over a plane.
    scaled = torch.mul(images, _spread(factor), out=out)
    return scaled.add_(mean * (1 - _spread(factor))).clamp_(0, 1)


def adjust_saturation(
    images: torch.Tensor, factor: torch.Tensor, *, out: torch.Tensor | None = None
) -> torch.Tensor:
    """Scale each pixel's distance to its grey value by ``factor`` >= 0; 1 changes nothing."""
    if images.shape[1] == 1:
        return images
    return torch.lerp(luma(images), images, _spread(factor), out=out).clamp_(0, 1)


def adjust_hue(
    images: torch.Tensor, turns: torch.Tensor, *, out: torch.Tensor | None = None
) -> torch.Tensor:
    """Turn the hue of each image by ``turns``, from -0.5 to 0.5; 0 changes nothing.

    As torchvision's way through HSV, without its branches. With V the greatest channel and C
    the distance to the least one, a channel is V - C times a trapezoid of the hue: 1 within a
    sixth of a turn of the opposite colour and 0 from a third on.
    """
    if images.shape[1] == 1:
        return images
    red, green, blue = images.unbind(1)
    low, high = torch.minimum(green, blue), torch.maximum(green, blue)
    value = torch.maximum(high, red)
    chroma = value - torch.minimum(low, red)
    # Hue from red, in sixths of a turn times chroma: 0 to 3 through yellow and green to cyan.
    # Written so that the three sectors on the way need no choice between formulas; the sign
    # tells this way round from the way through magenta and blue.
    hue = high.add_(value).sub_(low)
    hue.add_(torch.maximum(low, red, out=low), alpha=2).sub_(red, alpha=3)
    hue.copysign_(torch.sub(green, blue, out=low))
    value.sub_(chroma, alpha=2)
    sixths = chroma.mul_(6).clamp_min_(1e-12)  # grey pixels have no hue to divide by
    hue.div_(sixths)
    # A channel's own colour lies at 0, 1/3, 2/3 of a turn; one more turn keeps frac positive.
    offset = 11 / 6 - torch.arange(3, device=images.device).view(1, 3, 1, 1) / 3
    phase = torch.add(hue.unsqueeze(1), offset + _spread(turns), out=out)
    phase.frac_().sub_(1 / 3).abs_().clamp_(1 / 6, 1 / 3)
    return phase.mul_(sixths.unsqueeze(1)).add_(value.unsqueeze(1)).clamp_(0, 1)


def greyscale(
    images: torch.Tensor, chosen: torch.Tensor, *, out: torch.Tensor | None = None
) -> torch.Tensor:
    """Replace the images whose ``chosen`` is 1 by their grey value; 0 changes nothing."""
    if images.shape[1] == 1:
        return images
    return torch.lerp(images, luma(images), _spread(chosen), out=out)


def linear_colour(
    draws: Mapping[str, torch.Tensor], order: Sequence[str], *, channels: int
) -> torch.Tensor:
    """The matrices with which :func:`recolour` does all colour operations at once.

    Without clamping in between, each is linear in a pixel and the mean of its image, and so are
    all of them. The hue turns in the chroma plane of YIQ, as NVIDIA DALI's ``color_twist`` turns
    it: grey values stay, where HSV keeps the greatest and the least channel.

    Args:
        draws: The parameters ``(N,)`` by name: "brightness", "contrast", "saturation", "hue" in
            turns, "grey"; not all are needed.
        order: Their names, the first operation first.
        channels: C, 1 or 3; with 1, only brightness and contrast do something.

    Returns:
        ``(N, C, 2 C)``: what the pixel counts, then what the mean counts.
    """
    n, device = len(draws[order[0]]), draws[order[0]].device
    pixel = torch.eye(channels, device=device).expand(n, -1, -1)
    both = torch.cat([pixel, torch.zeros_like(pixel)], 2)
    quarter = torch.tensor(QUARTER_TURN).to(device, non_blocking=True)  # no wait for a GPU
    for name in order:
        grey = luma(both) if channels == 3 else both
        parameter = draws[name][:, None, None]
        if name == "brightness":
            both = both * parameter
        elif name == "contrast":
            level = sum(grey.chunk(2, 2)) * (1 - parameter)  # of the mean itself
            both = both * parameter + F.pad(level, (channels, 0))
        elif channels == 3 and name == "hue":
            angle = 2 * math.pi * parameter
            both = both + (both - grey) * (angle.cos() - 1) + (quarter @ both) * angle.sin()
        elif channels == 3:  # saturation and greyscale
            both = torch.lerp(grey, both, parameter if name == "saturation" else 1 - parameter)
    return both


def recolour(
    images: torch.Tensor, colours: torch.Tensor, *, out: torch.Tensor | None = None
) -> torch.Tensor:
    """Map the channels of each image by its matrix of :func:`linear_colour`, then clamp.

    Args:
        images: float ``(N, C, H, W)``.
        colours: ``(N, C, 2 C)``.
        out: Where the result goes, contiguous; not the images themselves.
    """
    pixel, mean = colours.chunk(2, 2)
    planes = images.flatten(2)
    added = torch.bmm(mean, planes.mean(2, keepdim=True))
    place = None if out is None else out.view(planes.shape)
    return torch.bmm(pixel, planes, out=place).add_(added).clamp_(0, 1).view(images.shape)


def resized_crop(
    images: torch.Tensor, box: torch.Tensor, mirror: torch.Tensor, *, size: int
) -> torch.Tensor:
    """Cut a box out of each image, resize it to a square and mirror it.

    Antialiased bilinear as torchvision's ``resized_crop``, by two batched matrix products.

    Args:
        images: float ``(N, C, H, W)``.
        box: See :func:`crop_matrices`.
        mirror: ``(N,)``, 1 to mirror left and right, 0 not.
        size: Height and width of the result.

    Returns:
        float ``(N, C, size, size)``.
    """
    height, width = images.shape[2:]
    return resample(images, *crop_matrices(box, mirror, height=height, width=width, size=size))


def crop_matrices(
    box: torch.Tensor,
    mirror: torch.Tensor,
    upside_down: torch.Tensor | None = None,
    *,
    height: int,
    width: int,
    size: int,
) -> tuple[torch.Tensor, torch.Tensor]:
    """The matrices with which :func:`resample` crops, resizes and mirrors.

    Args:
        box: ``(N, 4)`` whole numbers as floats: top, left, height, width, in pixels, inside the
            image.
        mirror: ``(N,)``, 1 to mirror left and right, 0 not.
        upside_down: ``(N,)``, 1 to mirror top and bottom, 0 not; None for no image.
        height: Of the images.
        width: Of the images.
        size: Height and width of the result.

    Returns:
        rows ``(N, size, height)`` and columns ``(N, size, width)``.
    """
    start, length = box.T.chunk(2)  # (2, N) each, down and across
    down = torch.zeros_like(mirror) if upside_down is None else upside_down
    flip = torch.stack([down, mirror])
    rows, columns = _interpolation(start, length, flip, old=max(height, width), new=size)
    return rows[..., :height], columns[..., :width]


def resample(images: torch.Tensor, rows: torch.Tensor, columns: torch.Tensor) -> torch.Tensor:
    """``rows @ plane @ columns.T`` for every plane of ``images``, one pair of matrices an image.

    Args:
        images: float ``(N, C, H, W)``.
        rows: ``(N, h, H)``.
        columns: ``(N, w, W)``.

    Returns:
        float ``(N, C, h, w)``. In memory it lies channel after channel: the products write
        straight to their places, and the colour operations read whole planes.
    """
    n, c, h, w = images.shape
    half = torch.bmm(images.reshape(n, c * h, w), columns.mT).view(n, c, h, -1)
    planes = images.new_empty(c, n, rows.shape[1], columns.shape[1])
    for channel, plane in enumerate(planes):
        torch.bmm(rows, half[:, channel], out=plane)
    return planes.transpose(0, 1)


def transpose(images: torch.Tensor, chosen: torch.Tensor) -> torch.Tensor:
    """Exchange rows and columns of the square images whose ``chosen`` is 1; 0 changes nothing."""
    return torch.where(_spread(chosen) > 0, images.mT, images)


def pad_to_square(images: torch.Tensor) -> torch.Tensor:
    """Images in the middle of squares of their longer side, the rest in a colour of their own.

    That is the mean of an image's outermost pixels: of a scan the colour of the paper, of a
    photograph the one with the least of an edge. The smaller half of an odd remainder is above or
    to the left.

    Args:
        images: uint8 ``(N, C, H, W)``.

    Returns:
        uint8 ``(N, C, S, S)``, S the larger of H and W.
    """
    height, width = images.shape[2:]
    side = max(height, width)
    inner = images[:, :, 1:-1, 1:-1].sum((2, 3))  # whole numbers, so that nothing is rounded here
    outer = images.sum((2, 3)) - inner
    count = height * width - max(0, height - 2) * max(0, width - 2)
    colour = (outer / count).round().to(torch.uint8)
    squares = colour[:, :, None, None].expand(-1, -1, side, side).contiguous()
    top, left = (side - height) // 2, (side - width) // 2
    squares[:, :, top : top + height, left : left + width] = images
    return squares


def affine(
    images: torch.Tensor,
    *,
    angle: torch.Tensor,
    translate: torch.Tensor,
    scale: torch.Tensor,
    shear: torch.Tensor,
) -> torch.Tensor:
    """Shear, rotate, scale and shift each image about its centre; black comes in from outside.

    Bilinear, as torchvision's ``affine``.

    Args:
        images: float ``(N, C, S, S)``, square.
        angle: ``(N,)`` degrees clockwise.
        translate: ``(N, 2)`` to the right and down, in sides of the image.
        scale: ``(N,)`` factor > 0.
        shear: ``(N,)`` degrees parallel to the x axis.
    """
    turn, slant = torch.deg2rad(angle), torch.tan(torch.deg2rad(shear))
    cos, sin = torch.cos(turn), torch.sin(turn)
    # The inverse map, because the grid names the place in the input of each output pixel.
    a, b = (cos - sin * slant) / scale, (sin + cos * slant) / scale
    c, d = -sin / scale, cos / scale
    x, y = (2 * translate).unbind(1)  # the grid's unit is half a side
    theta = torch.stack([a, b, -(a * x + b * y), c, d, -(c * x + d * y)], 1).view(-1, 2, 3)
    grid = F.affine_grid(theta, list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, padding_mode="zeros", align_corners=False)


def cutout(
    images: torch.Tensor, box: torch.Tensor, *, out: torch.Tensor | None = None
) -> torch.Tensor:
    """Make a box of each image black.

    Args:
        images: float ``(N, C, H, W)``.
        box: ``(N, 4)`` whole numbers as floats: top, left, height, width, in pixels; a height of 0
            changes nothing.
        out: Where the result goes.
    """
    top, left, tall, wide = box.unsqueeze(2).unbind(1)
    y, x = (torch.arange(side, device=images.device) for side in images.shape[2:])
    rows = ((y >= top) & (y < top + tall)).float()
    columns = ((x >= left) & (x < left + wide)).float()
    hole = rows[:, None, :, None] * columns[:, None, None, :]
    return torch.mul(images, 1 - hole, out=out)


def gaussian_blur(images: torch.Tensor, sigma: torch.Tensor, *, kernel: int) -> torch.Tensor:
    """Blur each image with a Gaussian of its own width, reflected at the borders.

    Two batched products with banded matrices, as torchvision's ``gaussian_blur``.

    Args:
        images: float ``(N, C, H, W)``.
        sigma: ``(N,)`` standard deviation in pixels; 0 changes nothing.
        kernel: Pixels of the kernel, odd, at most 2 x the smaller side - 1.
    """
    distance = torch.arange(kernel, device=images.device) - kernel // 2
    weights = torch.softmax(-((distance / sigma.clamp_min(1e-6)[:, None]) ** 2) / 2, 1)
    height, width = images.shape[2:]
    rows = _convolution(weights, height)
    columns = rows if width == height else _convolution(weights, width)
    return resample(images, rows, columns)


def normalise(
    images: torch.Tensor,
    mean: tuple[float, ...],
    std: tuple[float, ...],
    *,
    out: torch.Tensor | None = None,
) -> torch.Tensor:
    """Subtract each channel's mean and divide by its standard deviation.

    Args:
        images: float ``(N, C, H, W)``.
        mean: One number for all channels, or one a channel; () leaves the images as they are.
        std: As many numbers > 0.
        out: Where the result goes.

    Raises:
        InputError: If the numbers do not fit the channels.
    """
    channels = images.shape[1]
    if len(mean) != len(std) or len(mean) not in (0, 1, channels):
        raise InputError(
            f"{len(mean)} means and {len(std)} standard deviations for images of {channels} "
            f"channel(s); give 1 or {channels} of each"
        )
    if not mean:
        return images if out is None else out.copy_(images)
    if out is None:
        out = torch.empty_like(images, memory_format=torch.contiguous_format)
    numbers = zip(mean, std, strict=True) if len(mean) > 1 else [(mean[0], std[0])] * channels
    # Plain numbers, because making a tensor of them would wait for a GPU.
    for old, new, (m, s) in zip(images.unbind(1), out.unbind(1), numbers, strict=True):
        torch.sub(old, m, out=new).div_(s)
    return out


def _spread(parameter: torch.Tensor) -> torch.Tensor:
    """``(N,)`` to ``(N, 1, 1, 1)``."""
    return parameter[:, None, None, None]


def _interpolation(
    start: torch.Tensor, length: torch.Tensor, flip: torch.Tensor, *, old: int, new: int
) -> torch.Tensor:
    """Matrices ``(..., new, old)`` that resize a stretch of a line, triangle weights in a row.

    Start, length and flip are ``(...)``.
    """
    output = torch.arange(new, device=start.device, dtype=torch.float32)
    output = output + flip[..., None] * (new - 1 - 2 * output)
    scale = (length / new)[..., None]
    width = scale.clamp_min(1)  # of the triangle: wider when shrinking, which is the antialiasing
    centre = ((output + 0.5) * scale + (start[..., None] - 0.5)) / width
    pixel = torch.arange(old, device=start.device, dtype=torch.float32)
    first, last = start[..., None], (start + length)[..., None]
    inside = (pixel - first + 1).clamp_(0, 1).mul_((last - pixel).clamp_(0, 1))[..., None, :]
    # Minus the triangle; the sign drops out when each row is divided by its sum.
    weights = ((pixel / width)[..., None, :] - centre[..., None]).abs_().clamp_max_(1)
    weights = torch.addcmul(-inside, weights, inside, out=weights)  # (weights - 1) * inside
    return weights.mul_(weights.sum(-1, keepdim=True).reciprocal_())


def _convolution(weights: torch.Tensor, side: int) -> torch.Tensor:
    """Matrices ``(N, side, side)`` that convolve a line with ``weights`` ``(N, kernel)``."""
    kernel = weights.shape[1]
    unit = torch.eye(side, device=weights.device).unsqueeze(0)
    taps = F.pad(unit, (kernel // 2, kernel // 2), mode="reflect")[0].unfold(1, kernel, 1)
    return (weights @ taps.permute(2, 1, 0).reshape(kernel, -1)).view(-1, side, side)
