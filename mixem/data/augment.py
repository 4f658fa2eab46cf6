"""Random views of whole batches of images, drawn and computed on the images' device.

Every operation is a plain function of float images in [0, 1] and per-image parameters; an
:class:`Augmentation` is a recipe that draws the parameters and applies the operations.
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F

from mixem.errors import InputError

GREY = (0.2989, 0.587, 0.114)  # ITU-R 601 luma as torchvision rounds it


def grey_of(images: torch.Tensor) -> torch.Tensor:
    """Luma ``(N, 1, H, W)`` of colour images ``(N, 3, H, W)``."""
    r, g, b = images.unbind(1)
    return (r * GREY[0]).add_(g, alpha=GREY[1]).add_(b, alpha=GREY[2]).unsqueeze(1)


def per_image(parameter: torch.Tensor) -> torch.Tensor:
    """``(N,)`` as ``(N, 1, 1, 1)``."""
    return parameter[:, None, None, None]


def adjust_brightness(images: torch.Tensor, factor: torch.Tensor) -> torch.Tensor:
    """Multiply each image by its factor; factor ``(N,)`` >= 0, 1 changes nothing."""
    return images.mul(per_image(factor)).clamp_(0, 1)


def adjust_contrast(images: torch.Tensor, factor: torch.Tensor) -> torch.Tensor:
    """Move each image away from its mean grey; factor ``(N,)`` >= 0, 1 changes nothing."""
    grey = grey_of(images) if images.shape[1] == 3 else images
    return torch.lerp(grey.mean((1, 2, 3), keepdim=True), images, per_image(factor)).clamp_(0, 1)


def adjust_saturation(images: torch.Tensor, factor: torch.Tensor) -> torch.Tensor:
    """Move each pixel away from its grey; factor ``(N,)`` >= 0, 1 changes nothing."""
    if images.shape[1] != 3:
        return images
    return torch.lerp(grey_of(images), images, per_image(factor)).clamp_(0, 1)


def adjust_hue(images: torch.Tensor, shift: torch.Tensor) -> torch.Tensor:
    """Turn the hue of each image by ``shift`` ``(N,)`` turns, -0.5 to 0.5; 0 changes nothing."""
    if images.shape[1] != 3:
        return images
    r, g, b = images.unbind(1)
    high = torch.maximum(torch.maximum(r, g), b)
    chroma = high - torch.minimum(torch.minimum(r, g), b)
    hue = torch.where(
        high == r, g - b, torch.where(high == g, b - r + 2 * chroma, r - g + 4 * chroma)
    )
    hue = hue.div_(6 * chroma.clamp_min(1e-12)).unsqueeze_(1)
    offset = torch.tensor([5 / 6, 3 / 6, 1 / 6], device=images.device).view(1, 3, 1, 1) + 2
    phase = (hue + (offset + per_image(shift))).frac_().sub_(1 / 3).abs_().clamp_(1 / 6, 1 / 3)
    return torch.addcmul(
        (high - 2 * chroma).unsqueeze_(1), (6 * chroma).unsqueeze_(1), phase
    ).clamp_(0, 1)


def greyscale(images: torch.Tensor, chosen: torch.Tensor) -> torch.Tensor:
    """Replace the chosen ``(N,)`` images by their grey."""
    if images.shape[1] != 3:
        return images
    return torch.where(per_image(chosen), grey_of(images), images)


def interpolation(
    start: torch.Tensor, length: torch.Tensor, flip: torch.Tensor, *, old: int, new: int
) -> torch.Tensor:
    """Matrices ``(N, new, old)`` that cut out a stretch of a line and resize it.

    Antialiased linear interpolation as in ``torchvision.transforms.v2.functional.resize``.
    """
    output = torch.arange(new, device=start.device, dtype=torch.float32)
    output = torch.where(flip[:, None], new - 1 - output, output)
    scale = (length / new)[:, None]
    centre = (scale * (output + 0.5) + start[:, None])[:, :, None]
    pixel = torch.arange(old, device=start.device, dtype=torch.float32)
    weights = 1 - (pixel + 0.5 - centre).abs() / scale[:, :, None].clamp_min(1)
    inside = (pixel >= start[:, None]) & (pixel < (start + length)[:, None])
    weights = weights.clamp_min_(0).mul_(inside[:, None, :])
    return weights.div_(weights.sum(2, keepdim=True))


def resized_crop(
    images: torch.Tensor, box: torch.Tensor, flip: torch.Tensor, *, size: int
) -> torch.Tensor:
    """Cut ``box`` ``(4, N)`` = top, left, height, width out of each image and resize it.

    Args:
        images: float ``(N, C, H, W)``.
        box: in pixels.
        flip: bool ``(N,)``, mirror left and right.
        size: Height and width of the result.
    """
    n, c, h, w = images.shape
    top, left, height, width = box
    rows = interpolation(top, height, torch.zeros_like(flip), old=h, new=size)
    columns = interpolation(left, width, flip, old=w, new=size)
    half = torch.bmm(images.reshape(n, c * h, w), columns.mT).view(n, c, h, size)
    return torch.stack([torch.bmm(rows, half[:, channel]) for channel in range(c)], 1)


def affine(
    images: torch.Tensor,
    *,
    angle: torch.Tensor,
    translate: torch.Tensor,
    scale: torch.Tensor,
    shear: torch.Tensor,
) -> torch.Tensor:
    """Rotate, shift, scale and shear each image ``(N, C, S, S)``, black outside.

    Args:
        images: Square float images.
        angle: ``(N,)`` degrees, as torchvision's ``affine``.
        translate: ``(2, N)`` right and down, as a share of the image's side.
        scale: ``(N,)`` factor.
        shear: ``(N,)`` degrees parallel to the x axis.
    """
    turn, slant = torch.deg2rad(angle), torch.tan(torch.deg2rad(shear))
    cos, sin = torch.cos(turn), torch.sin(turn)
    # Inverse of rotation x shear x scale; affine_grid asks for the input place of each output.
    a, b = (cos - sin * slant) / scale, (sin + cos * slant) / scale
    c, d = -sin / scale, cos / scale
    x, y = 2 * translate
    theta = torch.stack([a, b, -(a * x + b * y), c, d, -(c * x + d * y)], 1).view(-1, 2, 3)
    grid = F.affine_grid(theta, list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, padding_mode="zeros", align_corners=False)


def gaussian_blur(images: torch.Tensor, sigma: torch.Tensor, *, kernel: int) -> torch.Tensor:
    """Blur each image with its own width ``sigma`` ``(N,)`` in pixels; 0 changes nothing."""
    n, c, h, w = images.shape
    reach = kernel // 2
    distance = torch.arange(-reach, reach + 1, device=images.device, dtype=torch.float32)
    exponent = -0.5 * (distance / sigma.clamp_min(1e-6)[:, None]) ** 2
    weights = torch.softmax(exponent, 1)
    rows, columns = (_band(weights, side) for side in (h, w))
    half = torch.bmm(images.reshape(n, c * h, w), columns.mT).view(n, c, h, w)
    return torch.stack([torch.bmm(rows, half[:, channel]) for channel in range(c)], 1)


def _band(weights: torch.Tensor, side: int) -> torch.Tensor:
    """Matrices ``(N, side, side)`` that convolve a line, reflected at its ends."""
    reach = weights.shape[1] // 2
    unit = torch.eye(side, device=weights.device)
    shifted = F.pad(unit[None], (reach, reach), mode="reflect")[0].unfold(1, weights.shape[1], 1)
    return torch.einsum("nk,iok->noi", weights, shifted)


def normalise(
    images: torch.Tensor, mean: tuple[float, ...], std: tuple[float, ...]
) -> torch.Tensor:
    """Subtract the mean of each channel and divide by its standard deviation.

    Args:
        images: float ``(N, C, H, W)``.
        mean: One number, or one a channel; () for none.
        std: The same, greater than 0.
    """
    if not mean:
        return images
    if len(mean) not in (1, images.shape[1]):
        raise InputError(
            f"{len(mean)} means for images of {images.shape[1]} channels; give one a channel"
        )
    centre, width = (torch.tensor(v, device=images.device).view(1, -1, 1, 1) for v in (mean, std))
    return (images - centre) / width


@dataclass(frozen=True)
class Augmentation:
    """A recipe for random views; with the defaults it only resizes.

    Attributes:
        size: Height and width of a view.
        crop_scale: Least and greatest area of the crop, as a share of the image.
        crop_ratio: Least and greatest width : height of the crop.
        flip: Probability of mirroring left and right.
        degrees: Greatest rotation to either side.
        translate: Greatest shift to either side, as a share of the size.
        scale: Least and greatest factor of enlargement.
        shear: Greatest shear to either side, in degrees.
        brightness: Factor drawn from 1 - this to 1 + this, not below 0.
        contrast: The same.
        saturation: The same.
        hue: Greatest turn to either side, 0 to 0.5.
        jitter: Probability that an image's brightness, contrast, saturation and hue change.
        grey: Probability that an image becomes grey.
        blur: Probability that an image is blurred.
        blur_sigma: Least and greatest width of the blur, in pixels.
        blur_kernel: Odd number of pixels; None is a tenth of the size.
        mean: Subtracted from each channel; () is no normalisation.
        std: Divides each channel.
    """

    size: int
    crop_scale: tuple[float, float] | None = None
    crop_ratio: tuple[float, float] = (3 / 4, 4 / 3)
    flip: float = 0.0
    degrees: float = 0.0
    translate: float = 0.0
    scale: tuple[float, float] | None = None
    shear: float = 0.0
    brightness: float = 0.0
    contrast: float = 0.0
    saturation: float = 0.0
    hue: float = 0.0
    jitter: float = 0.8
    grey: float = 0.0
    blur: float = 0.0
    blur_sigma: tuple[float, float] = (0.1, 2.0)
    blur_kernel: int | None = None
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()

    def plain(self, images: torch.Tensor) -> torch.Tensor:
        """What evaluation sees: uint8 ``(N, C, h, w)`` resized and normalised, nothing random."""
        return normalise(self._resize(images), self.mean, self.std)

    def _resize(self, images: torch.Tensor) -> torch.Tensor:
        images = images.float().div_(255)
        if images.shape[2:] == (self.size, self.size):
            return images
        side = min(images.shape[2:])
        top, left = (images.shape[2] - side) // 2, (images.shape[3] - side) // 2
        images = images[:, :, top : top + side, left : left + side]
        return F.interpolate(images, (self.size, self.size), mode="bilinear", antialias=True)

    @torch.no_grad()
    def __call__(self, images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """One random view of each image.

        Args:
            images: uint8 ``(N, C, h, w)``.
            generator: On the images' device.

        Returns:
            float32 ``(N, C, size, size)``.
        """
        n = len(images)

        def uniform(low: float, high: float, *shape: int) -> torch.Tensor:
            draw = torch.rand(*shape, n, generator=generator, device=images.device)
            return draw.mul_(high - low).add_(low)

        def happens(probability: float) -> torch.Tensor:
            return uniform(0, 1) < probability

        with torch.autocast(images.device.type, enabled=False):
            if self.crop_scale is not None:
                views = resized_crop(
                    images.float().div_(255),
                    self._crop_box(images, uniform),
                    happens(self.flip),
                    size=self.size,
                )
            else:
                views = self._resize(images)
                if self.flip:
                    views = torch.where(per_image(happens(self.flip)), views.flip(3), views)
            if self.degrees or self.translate or self.scale or self.shear:
                views = affine(
                    views,
                    angle=uniform(-self.degrees, self.degrees),
                    translate=uniform(-self.translate, self.translate, 2),
                    scale=uniform(*(self.scale or (1, 1))),
                    shear=uniform(-self.shear, self.shear),
                )
            if self.jitter and any((self.brightness, self.contrast, self.saturation, self.hue)):
                drawn = happens(self.jitter)
                one = torch.ones(n, device=images.device)
                steps = [
                    (function, torch.where(drawn, uniform(max(0, 1 - s), 1 + s), one))
                    for function, s in (
                        (adjust_brightness, self.brightness),
                        (adjust_contrast, self.contrast),
                        (adjust_saturation, self.saturation),
                    )
                ]
                steps.append((adjust_hue, uniform(-self.hue, self.hue) * drawn))
                for index in torch.randperm(4).tolist():
                    function, parameter = steps[index]
                    views = function(views, parameter)
            if self.grey:
                views = greyscale(views, happens(self.grey))
            if self.blur:
                kernel = self.blur_kernel or max(3, self.size // 10 // 2 * 2 + 1)
                sigma = uniform(*self.blur_sigma) * happens(self.blur)
                views = gaussian_blur(views, sigma, kernel=kernel)
            return normalise(views, self.mean, self.std)

    def _crop_box(self, images, uniform) -> torch.Tensor:
        h, w = images.shape[2:]
        assert self.crop_scale is not None
        area = uniform(*self.crop_scale, 10) * (h * w)
        ratio = uniform(math.log(self.crop_ratio[0]), math.log(self.crop_ratio[1]), 10).exp()
        widths, heights = (area * ratio).sqrt().round(), (area / ratio).sqrt().round()
        valid = (widths > 0) & (widths <= w) & (heights > 0) & (heights <= h)
        first = valid.int().argmax(0, keepdim=True)
        width, height = widths.gather(0, first)[0], heights.gather(0, first)[0]
        whole_w, whole_h = float(w), float(h)
        if w / h < min(self.crop_ratio):
            whole_h = round(w / min(self.crop_ratio))
        elif w / h > max(self.crop_ratio):
            whole_w = round(h * max(self.crop_ratio))
        found = valid.any(0)
        width, height = torch.where(found, width, whole_w), torch.where(found, height, whole_h)
        spare = torch.stack([h - height, w - width])
        place = (uniform(0, 1, 2) * (spare + 1)).floor().minimum(spare)
        place = torch.where(found, place, (spare / 2).floor())
        return torch.stack([place[0], place[1], height, width])
