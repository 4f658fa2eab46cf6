"""Random views of whole batches of images, drawn and computed on the images' device."""

import math
import random
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch.utils.data import get_worker_info

from mixem.data import operations
from mixem.data.checks import check_tensor
from mixem.distributed import rank, size
from mixem.errors import InputError

__all__ = ["Augmentation", "central_square", "draw_order"]

COLOUR: dict[str, Callable[..., torch.Tensor]] = {
    "brightness": operations.adjust_brightness,
    "contrast": operations.adjust_contrast,
    "saturation": operations.adjust_saturation,
    "hue": operations.adjust_hue,
    "grey": operations.greyscale,
}
JITTER = [name for name in COLOUR if name != "grey"]

# On a CPU a batch is worked through in pieces of about this many bytes of float pixels a thread,
# which stay in the core's cache from one operation to the next: measured 1.6 times as fast.
CACHE_BYTES = 3 * 2**18


@dataclass(frozen=True)
class Augmentation:
    """A recipe for random views; with the defaults it only resizes.

    Calling it draws one view of each image: crop and resize, flips, quarter turns, affine map,
    cutout, colour jitter, greyscale, blur, normalisation, in this order (``affine_first`` puts the
    affine map before the crop). Each image has its own draws; only the order of the four jitter
    operations is shared by a batch (torchvision draws it for each image).

    Call it in the main process, on the batches that a ``DataLoader`` hands over. Workers are not
    needed, and are refused: each has a copy of the generator, so that all of them, and every
    epoch, would get the same draws.

    >>> views = Augmentation(size=32, crop_scale=(0.2, 1.0), flip=0.5)
    >>> images = torch.zeros(4, 3, 48, 64, dtype=torch.uint8)
    >>> views(images, torch.Generator().manual_seed(0)).shape
    torch.Size([4, 3, 32, 32])

    Attributes:
        size: Height and width of a view, in pixels.
        crop_scale: Least and greatest area of the crop, as a share of the image's; None for the
            central square.
        crop_ratio: Least and greatest width / height of the crop.
        crop_sides: Sides of a square crop in pixels of the image, instead of ``crop_scale``; each
            image draws one of them, and a place.
        centre: Probability that a crop of ``crop_sides`` is central.
        plain_side: Side of the central square that evaluation sees, in pixels of the image; None
            for the largest.
        plain_size: Height and width of what evaluation sees; None for ``size``.
        pad: Instead of cutting off what an image is longer than its central square, add what it is
            shorter, in the mean colour of its outermost pixels. All that is said of an image is
            then said of the padded one. Pictures of a folder are padded when they are decoded.
        flip: Probability of mirroring left and right.
        vertical_flip: Probability of mirroring top and bottom, for pictures that have no up.
        quarter_turns: Probability of turning by a quarter, a half or three quarters, each as
            likely; 0.75 for all four ways up alike. No corner becomes black, as with ``degrees``.
        affine: Probability that rotation, shift, enlargement and shear of an image happen.
        affine_first: The affine map comes before the crop, on the whole image, so that less black
            comes in at the corners; images must be square then.
        degrees: Greatest rotation to either side.
        translate: Greatest shift along x and along y, in sides of the view. Not rounded to
            whole pixels as torchvision's is.
        scale: Least and greatest factor of enlargement; None for 1.
        shear: Greatest shear parallel to the x axis to either side, in degrees.
        cutout: Probability that a square of an image becomes black.
        cutout_sides: Least and greatest side of that square, in sides of the view and rounded down
            to pixels; it lies wholly inside.
        cutout_width: Width of what becomes black, in the same unit, ``cutout_sides`` being its
            height; 1 for a band from edge to edge, None for a square.
        brightness: The factor is drawn from 1 - brightness (at least 0) to 1 + brightness.
        contrast: The same for contrast.
        saturation: The same for saturation; nothing happens to one-channel images.
        hue: Greatest turn to either side, up to 0.5; nothing happens to one-channel images.
        jitter: Probability that brightness, contrast, saturation and hue of an image change.
        grey: Probability that an image loses its colours.
        linear_colour: Jitter and greyscale as one matrix an image, which is faster but not
            torchvision's arithmetic: clamped once instead of after each operation, and another
            turn of the hue; see ``mixem.data.operations``.
        blur: Probability that an image is blurred.
        blur_sigma: Least and greatest standard deviation of the blur, in pixels.
        blur_kernel: Pixels of the blur's kernel, odd; None for a tenth of the size, at least 3.
        mean: Subtracted from each channel of [0, 1]; () for no normalisation.
        std: Divides each channel after that.

    Raises:
        InputError: If a value is out of its range.
    """

    size: int
    crop_scale: tuple[float, float] | None = None
    crop_ratio: tuple[float, float] = (3 / 4, 4 / 3)
    crop_sides: tuple[int, ...] = ()
    centre: float = 0.0
    plain_side: int | None = None
    plain_size: int | None = None
    pad: bool = False
    flip: float = 0.0
    vertical_flip: float = 0.0
    quarter_turns: float = 0.0
    affine: float = 1.0
    affine_first: bool = False
    degrees: float = 0.0
    translate: float = 0.0
    scale: tuple[float, float] | None = None
    shear: float = 0.0
    cutout: float = 0.0
    cutout_sides: tuple[float, float] = (0.2, 0.7)
    cutout_width: float | None = None
    brightness: float = 0.0
    contrast: float = 0.0
    saturation: float = 0.0
    hue: float = 0.0
    jitter: float = 0.8
    grey: float = 0.0
    linear_colour: bool = False
    blur: float = 0.0
    blur_sigma: tuple[float, float] = (0.1, 2.0)
    blur_kernel: int | None = None
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        """Check every value; lists, as JSON has them, become tuples."""
        for field in fields(self):
            if isinstance(value := getattr(self, field.name), list):
                object.__setattr__(self, field.name, tuple(value))
        self._check_sizes()
        self._check_strengths()
        self._check_normalisation()

    def _check_sizes(self) -> None:
        """Whole numbers of pixels."""
        self._check("size", "a whole number from 1 on", _whole(self.size) and self.size >= 1)
        sides = isinstance(self.crop_sides, tuple) and all(
            _whole(side) and side >= 1 for side in self.crop_sides
        )
        self._check("crop_sides", "whole numbers from 1 on", sides)
        alone = not (self.crop_scale and self.crop_sides)
        self._check("crop_sides", "() beside a crop_scale", alone)
        for name in ("plain_side", "plain_size"):
            value = getattr(self, name)
            whole = value is None or (_whole(value) and value >= 1)
            self._check(name, "a whole number from 1 on", whole)
        kernel, most = self.blur_kernel, 2 * self.size - 1
        odd = kernel is None or (_whole(kernel) and kernel in range(1, most + 1, 2))
        self._check("blur_kernel", f"an odd number from 1 to {most}", odd)

    def _check_strengths(self) -> None:
        """Probabilities, strengths and ranges."""
        for name in (
            "centre", "flip", "vertical_flip", "quarter_turns", "affine", "cutout", "jitter",
            "grey", "blur",
        ):  # fmt: skip
            self._check_number(name, 0, 1)
        for name, most in (("degrees", 180), ("translate", 1), ("shear", 89), ("hue", 0.5)):
            self._check_number(name, 0, most)
        for name in ("brightness", "contrast", "saturation"):
            self._check_number(name, 0, math.inf)
        for name, most in (
            ("crop_scale", 1), ("crop_ratio", math.inf), ("scale", math.inf),
            ("blur_sigma", math.inf), ("cutout_sides", 1),
        ):  # fmt: skip
            self._check_range(name, most)
        wide = self.cutout_width
        fits = wide is None or (_finite(wide) and 0 < wide <= 1)
        self._check("cutout_width", "a number above 0, at most 1, or None", fits)
        for name in ("affine_first", "linear_colour", "pad"):
            self._check(name, "True or False", isinstance(getattr(self, name), bool))

    def _check_normalisation(self) -> None:
        """As many means as standard deviations."""
        expected = "a tuple with as many numbers as std"
        numbers = isinstance(self.mean, tuple) and isinstance(self.std, tuple)
        numbers = numbers and all(_finite(value) for value in (*self.mean, *self.std))
        self._check("mean", expected, numbers)
        self._check("mean", expected, len(self.mean) == len(self.std))
        self._check("std", "a tuple of numbers above 0", all(value > 0 for value in self.std))

    def __call__(self, images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """Draw one view of each image.

        Args:
            images: uint8 ``(N, C, h, w)``, C = 1 or 3, or vectors: float16 ``(N, D)``.
            generator: On the images' device.

        Returns:
            float32 ``(N, C, size, size)``, in [0, 1] before normalisation. A view of a vector is
            itself; what else goes with it is a method's companions.

        Raises:
            InputError: If the images or the number of means do not fit, or in a worker of a
                ``DataLoader``.
        """
        if _vectors(images):
            return images.float()
        self.check_images(images)
        if get_worker_info() is not None:
            raise InputError(
                "views in a worker of a DataLoader would repeat themselves, for each worker has a "
                "copy of the generator; call the augmentation in the main process, on each batch"
            )
        images = self.padded(images)
        n, c, h, w = images.shape
        with torch.no_grad(), torch.autocast(images.device.type, enabled=False):
            # With several processes, the j-th image here is number j * size() + rank() of all.
            draws = self.draw(n * size(), h, w, generator)
            draws = {name: draw[rank() :: size()] for name, draw in draws.items()}
            if "box" in draws:
                across, down, turned = _flips(draws)
                draws["rows"], draws["columns"] = operations.crop_matrices(
                    draws.pop("box"), across, down, height=h, width=w, size=self.size
                )
                if turned is not None:
                    draws["turned"] = turned
            order = [name for name in (*draw_order(generator), "grey") if name in draws]
            if self.linear_colour and order:
                draws["colours"] = operations.linear_colour(draws, order, channels=c)
            piece = CACHE_BYTES // (4 * c * max(h * w, self.size**2)) * torch.get_num_threads()
            piece = max(1, piece) if images.device.type == "cpu" else n
            views = torch.empty(n, c, self.size, self.size, device=images.device)
            for start in range(0, n, piece):
                part = slice(start, start + piece)
                few = {name: draw[part] for name, draw in draws.items()}
                self._view(images[part], few, order, out=views[part])
            return views

    def several(self, images: torch.Tensor, count: int, generator: torch.Generator) -> torch.Tensor:
        """Draw ``count`` views of each image at once, ``(count, N, C, size, size)``.

        Faster than as many calls. All of them share the order of the jitter operations.

        Raises:
            InputError: As a call; also for vectors, whose views would all be the same.
        """
        if _vectors(images):
            raise InputError(
                "features have no other views; let a neighbour be one, as settings.neighbours=20"
            )
        return self(images.repeat(count, 1, 1, 1), generator).unflatten(0, (count, -1))

    def plain(self, images: torch.Tensor) -> torch.Tensor:
        """What evaluation sees: the central square, resized and normalised; nothing random.

        Args:
            images: uint8 ``(N, C, h, w)``, C = 1 or 3.

        Returns:
            float32 ``(N, C, plain_size, plain_size)``; of vectors, they themselves.
        """
        if _vectors(images):
            return images.float()
        self.check_images(images)
        images = self.padded(images)
        with torch.autocast(images.device.type, enabled=False):
            views = self._resized(images, self.plain_size or self.size)
            return operations.normalise(views, self.mean, self.std)

    def draw(
        self, n: int, height: int, width: int, generator: torch.Generator
    ) -> dict[str, torch.Tensor]:
        """The parameters of ``n`` views of images of ``height`` x ``width``.

        Returns:
            By name, what the recipe needs of: ``box`` ``(n, 4)`` and ``mirror``,
            ``upside_down``, ``quarters`` (0 to 3, against the clock); ``angle``, ``translate``
            ``(n, 2)``, ``scale``, ``shear``; ``hole`` ``(n, 4)``; ``brightness``, ``contrast``,
            ``saturation``, ``hue``; ``grey``; ``sigma``. ``(n,)`` where nothing else
            is said; an image that is left alone has the parameter that changes nothing.
        """
        dice = _Dice(n, generator)
        # The order is part of the recipe: what is drawn first moves all that is drawn after it.
        return (
            self._draw_crop(height, width, dice)
            | self._draw_map(dice)
            | self._draw_hole(dice)
            | self._draw_colours(dice)
            | ({"sigma": self._draw_sigma(dice)} if self.blur else {})
        )

    def _draw_crop(self, height: int, width: int, dice: "_Dice") -> dict[str, torch.Tensor]:
        """``box``, ``mirror``, ``upside_down``, ``quarters``."""
        if self.crop_scale is not None:
            box = self._draw_box(height, width, dice.uniform)
        elif self.crop_sides:
            box = self._draw_square(height, width, dice.uniform)
        elif self.flip or self.vertical_flip or self.quarter_turns:
            square = central_square(height, width, side=self.plain_side)
            box = torch.stack([dice.uniform(value, value) for value in square], 1)
        else:
            return {}
        draws = {"box": box, "mirror": dice.happens(self.flip)}
        if self.vertical_flip:
            draws["upside_down"] = dice.happens(self.vertical_flip)
        if self.quarter_turns:
            quarters = dice.uniform(1, 4).floor_().clamp_max_(3)
            draws["quarters"] = quarters.mul_(dice.happens(self.quarter_turns))
        return draws

    def _draw_map(self, dice: "_Dice") -> dict[str, torch.Tensor]:
        """``angle``, ``translate``, ``scale``, ``shear``."""
        if not (self.degrees or self.translate or self.scale or self.shear):
            return {}
        draws = {
            "angle": dice.uniform(-self.degrees, self.degrees),
            "translate": dice.uniform(-self.translate, self.translate, 2),
            "scale": dice.uniform(*(self.scale or (1, 1))),
            "shear": dice.uniform(-self.shear, self.shear),
        }
        if self.affine < 1:
            chosen = dice.happens(self.affine)
            draws["angle"].mul_(chosen)
            draws["translate"].mul_(chosen[:, None])
            draws["scale"].sub_(1).mul_(chosen).add_(1)
            draws["shear"].mul_(chosen)
        return draws

    def _draw_hole(self, dice: "_Dice") -> dict[str, torch.Tensor]:
        """``hole``: top, left, height, width, a height of 0 for none."""
        if not self.cutout:
            return {}
        low, high = (int(share * self.size) for share in self.cutout_sides)
        tall = dice.uniform(low, high + 1).floor_().clamp_max_(high)
        tall.mul_(dice.happens(self.cutout))
        wide = tall
        if self.cutout_width is not None:
            wide = torch.full_like(tall, int(self.cutout_width * self.size))
        sides = torch.stack([tall, wide], 1)
        return {"hole": torch.cat([_corner(self.size - sides, dice.uniform), sides], 1)}

    def _draw_colours(self, dice: "_Dice") -> dict[str, torch.Tensor]:
        """``brightness``, ``contrast``, ``saturation``, ``hue``; ``grey``."""
        draws = {}
        if self.jitter:
            chosen = dice.happens(self.jitter)
            for name in ("brightness", "contrast", "saturation"):
                if strength := getattr(self, name):
                    change = dice.uniform(max(-strength, -1), strength)
                    draws[name] = change.mul_(chosen).add_(1)
            if self.hue:
                draws["hue"] = dice.uniform(-self.hue, self.hue).mul_(chosen)
        if self.grey:
            draws["grey"] = dice.happens(self.grey)
        return draws

    def _draw_sigma(self, dice: "_Dice") -> torch.Tensor:
        return dice.uniform(*self.blur_sigma).mul_(dice.happens(self.blur))

    def _draw_box(
        self, height: int, width: int, uniform: Callable[..., torch.Tensor]
    ) -> torch.Tensor:
        """Top, left, height, width ``(n, 4)`` of the crops, as torchvision draws them.

        Area and log ratio are uniform. The first of ten tries that fits counts; where none
        does, the largest central crop of an allowed ratio.
        """
        assert self.crop_scale is not None
        low, high = self.crop_ratio
        area = uniform(*self.crop_scale, 10) * (height * width)
        ratio = uniform(math.log(low), math.log(high), 10).exp_()
        h, w = (area / ratio).sqrt_().round_(), (area * ratio).sqrt_().round_()
        fits = (h >= 1) & (h <= height) & (w >= 1) & (w <= width)
        first = fits.byte().argmax(1, keepdim=True)
        found = fits.any(1)
        h = torch.where(found, h.gather(1, first)[:, 0], min(height, max(1, round(width / low))))
        w = torch.where(found, w.gather(1, first)[:, 0], min(width, max(1, round(height * high))))
        spare = torch.stack([height - h, width - w], 1)
        corner = _corner(spare, uniform)
        corner = torch.where(found[:, None], corner, (spare / 2).floor_())
        return torch.cat([corner, torch.stack([h, w], 1)], 1)

    def _draw_square(
        self, height: int, width: int, uniform: Callable[..., torch.Tensor]
    ) -> torch.Tensor:
        """Top, left, height, width ``(n, 4)`` of square crops of the given sides."""
        count = len(self.crop_sides)
        which = uniform(0, count).floor_().clamp_max_(count - 1)
        side = torch.zeros_like(which)
        for index, pixels in enumerate(self.crop_sides):  # plain numbers: no wait for a GPU
            side.add_((which == index).float(), alpha=pixels)
        spare = torch.stack([height - side, width - side], 1)
        corner = _corner(spare, uniform)
        central = (uniform(0, 1) < self.centre)[:, None]
        corner = torch.where(central, (spare / 2).floor_(), corner)
        return torch.cat([corner, side[:, None], side[:, None]], 1)

    def _resized(self, images: torch.Tensor, size: int) -> torch.Tensor:
        """The central square ``(N, C, size, size)`` in [0, 1]."""
        top, left, side, _ = central_square(*images.shape[2:], side=self.plain_side)
        views = images[:, :, top : top + side, left : left + side].float().div_(255)
        if side == size:
            return views
        return F.interpolate(views, (size, size), mode="bilinear", antialias=True)

    def _view(
        self,
        images: torch.Tensor,
        draws: dict[str, torch.Tensor],
        order: list[str],
        *,
        out: torch.Tensor,
    ) -> None:
        """Write the views ``(N, C, size, size)`` that the draws describe."""
        names = ("angle", "translate", "scale", "shear")
        maps = {name: draws[name] for name in names if name in draws}
        if "rows" in draws:
            pixels = images.float().mul_(1 / 255)
            if maps and self.affine_first:
                pixels, maps = operations.affine(pixels, **maps), {}
            views = operations.resample(pixels, draws["rows"], draws["columns"])
            if "turned" in draws:
                views = operations.transpose(views, draws["turned"])
        else:
            views = self._resized(images, self.size)
        if maps:
            views = operations.affine(views, **maps)
        if "hole" in draws:
            views = operations.cutout(views, draws["hole"], out=views)
        if "colours" in draws:
            views = operations.recolour(views, draws["colours"], out=out)
        else:
            for name in order:
                views = COLOUR[name](views, draws[name], out=views)
        if "sigma" in draws:
            tenth = max(3, self.size // 10 // 2 * 2 + 1)
            kernel = self.blur_kernel or min(tenth, 2 * self.size - 1)
            views = operations.gaussian_blur(views, draws["sigma"], kernel=kernel)
        operations.normalise(views, self.mean, self.std, out=out)

    def check_images(self, images: torch.Tensor) -> None:
        """Raise :class:`InputError` unless views of these images can be drawn."""
        check_tensor(images)
        shape = tuple(images.shape)
        if images.dtype != torch.uint8 or len(shape) != 4 or shape[1] not in (1, 3) or 0 in shape:
            raise InputError(
                f"images are {images.dtype} of shape {shape}; "
                "give a uint8 tensor of shape (N, 1 or 3, H, W), none of them 0"
            )
        h, w = shape[2:]
        if self.pad:
            h = w = max(h, w)
        largest = max((*self.crop_sides, self.plain_side or 1))
        if largest > min(h, w):
            raise InputError(
                f"a crop of {largest} x {largest} pixels out of images of {h} x {w}; "
                "give larger images or smaller crop_sides and plain_side"
            )
        if self.affine_first and h != w:
            raise InputError(
                f"images of {h} x {w} pixels; affine_first needs square ones, leave it off"
            )

    def padded(self, images: torch.Tensor) -> torch.Tensor:
        """The images, made square if the recipe says so."""
        square = images.shape[2] == images.shape[3]
        return images if square or not self.pad else operations.pad_to_square(images)

    def _check(self, name: str, expected: str, holds: bool) -> None:
        if not holds:
            raise InputError(f"{name} is {getattr(self, name)!r}; give {expected}")

    def _check_number(self, name: str, low: float, high: float) -> None:
        value = getattr(self, name)
        upper = "on" if high == math.inf else f"to {high}"
        self._check(name, f"a number from {low} {upper}", _finite(value) and low <= value <= high)

    def _check_range(self, name: str, high: float) -> None:
        value = getattr(self, name)
        upper = "" if high == math.inf else f", at most {high}"
        self._check(
            name,
            f"two numbers above 0{upper}, the smaller first",
            (value is None and name in ("crop_scale", "scale"))
            or (
                isinstance(value, tuple)
                and len(value) == 2
                and all(_finite(bound) for bound in value)
                and 0 < value[0] <= value[1] <= high
            ),
        )


class _Dice(NamedTuple):
    """Draws for ``n`` images."""

    n: int
    generator: torch.Generator

    def uniform(self, low: float, high: float, *shape: int) -> torch.Tensor:
        """``(n, *shape)`` from ``low`` to ``high``."""
        draw = torch.empty(self.n, *shape, device=self.generator.device)
        return draw.uniform_(low, high, generator=self.generator)

    def happens(self, probability: float) -> torch.Tensor:
        """``(n,)``, 1 with this probability, else 0."""
        draw = torch.empty(self.n, device=self.generator.device)
        return draw.bernoulli_(probability, generator=self.generator)


def central_square(
    height: int, width: int, *, side: int | None = None
) -> tuple[int, int, int, int]:
    """Top, left, height, width of the central square, by default the largest."""
    side = side or min(height, width)
    return (height - side) // 2, (width - side) // 2, side, side


def _flips(
    draws: dict[str, torch.Tensor],
) -> tuple[torch.Tensor, torch.Tensor | None, torch.Tensor | None]:
    """Flips across and down, and what is transposed after them; None for nothing ever.

    A half turn is both flips. A quarter turn against the clock is the flip across, and then the
    exchange of rows and columns.
    """
    across, down = draws.pop("mirror"), draws.pop("upside_down", None)
    quarters = draws.pop("quarters", None)
    if quarters is None:
        return across, down, None
    half, odd = (quarters / 2).floor_(), quarters % 2
    down = half if down is None else (down - half).abs_()
    return ((across - half).abs_() - odd).abs_(), down, odd


def _corner(spare: torch.Tensor, uniform: Callable[..., torch.Tensor]) -> torch.Tensor:
    """Top and left ``(n, 2)`` of boxes that leave ``spare`` pixels down and across."""
    return (uniform(0, 1, 2) * (spare + 1)).floor_().minimum(spare)


def draw_order(generator: torch.Generator) -> list[str]:
    """The jitter operations in random order.

    The order has to be known on the host. It follows from the generator's state, which PyTorch
    keeps there on every device, so that no GPU is waited for.
    """
    state = generator.get_state().numpy().tobytes()
    return random.Random(state).sample(JITTER, len(JITTER))


def _finite(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _vectors(images: object) -> bool:
    """Whether they are features instead of pictures."""
    return isinstance(images, torch.Tensor) and images.dtype == torch.float16 and images.ndim == 2
