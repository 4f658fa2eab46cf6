"""IIC for segmentation (Ji, Henriques, Vedaldi 2019): a pixel tells what its neighbours are."""

import copy
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal, NamedTuple

import torch
from torch import nn

from mixem.clustering import KMeansProtocol, nearest_centre, place_centres
from mixem.data import IGNORED, Augmentation, ImageSet, check_channels, check_tensor, normalise
from mixem.data.frames import Frames, draw_frames
from mixem.distributed import rank, size
from mixem.errors import InputError
from mixem.losses import iic_segmentation
from mixem.methods.base import (
    Clustering,
    Maps,
    Method,
    MethodSettings,
    Step,
    at_least,
    mixed,
    refuse_neighbours,
)
from mixem.methods.heads import mean_losses
from mixem.models import SegmentationHead

__all__ = ["IICSegmentation", "IICSegmentationSettings", "PixelViews"]

AT_ONCE = 2**20  # pixels that go through the network at once outside training
METERED = 4  # of so many pixels along each axis, one tells the meter how the clusters fill
FITTED = 1000  # images of which k-means, a yardstick, sees some places


@dataclass(frozen=True)
class IICSegmentationSettings(MethodSettings):
    """What heads and loss are made of; the defaults are those of most published models.

    Attributes:
        over_clusters: Clusters of the overclustering head (``output_k_A``).
        sub_heads: Classifiers a head; 1 in all published models (``num_sub_heads``).
        passes: "main" and "over" in the order of an epoch. The released script trains both heads
            in an epoch, with "over" first, or "main" first (``head_B_first``). The published runs
            train one head an epoch, first "over": two of their epochs are one of these.
        lamb: Of the main head; see :func:`mixem.losses.iic_segmentation` (``lamb_B``).
        over_lamb: Of the overclustering head (``lamb_A``).
        max_displacement: T, the greatest distance of two pixels along each axis
            (``half_T_side_dense``).
        collapsed: One distribution for all displacements. The published models have one for each.
        labelled_only: The loss counts only the pixels whose class is known: masks are looked at
            in training. The published models of COCO-Stuff and Potsdam do it, so that the things
            of COCO-Stuff are left out.
        mapping: How clusters get a class when they are scored: "one-to-one", or "majority" of
            the labelled pixels of the images k-means would be fitted on (IIC+).
    """

    over_clusters: int = 15
    sub_heads: int = 1
    passes: tuple[str, ...] = ("over", "main")
    lamb: float = 1.0
    over_lamb: float = 1.0
    max_displacement: int = 10
    collapsed: bool = False
    labelled_only: bool = False
    mapping: Literal["one-to-one", "majority"] = "one-to-one"

    def __post_init__(self) -> None:
        at_least(self, over_clusters=2, sub_heads=1, lamb=0, over_lamb=0, max_displacement=0)
        refuse_neighbours(self)
        if "main" not in self.passes or set(self.passes) - {"main", "over"}:
            raise InputError(f"passes are {self.passes!r}; give 'main', and 'over' if wanted")
        if self.mapping not in ("one-to-one", "majority"):
            raise InputError(f"mapping is {self.mapping!r}; give 'one-to-one' or 'majority'")


class PixelViews(NamedTuple):
    """Two views of a batch.

    Attributes:
        plain: float ``(B, C, H, W)``.
        other: The same pixels in other colours, mirrored and turned.
        frames: How.
        corners: int64 ``(B, 2)``, top and left of the pixels in the images; None for all of them.
    """

    plain: torch.Tensor
    other: torch.Tensor
    frames: Frames
    corners: torch.Tensor | None


class IICSegmentation(Method):
    """A trunk that keeps the places, with two heads, trained by the information between pixels.

    A view is the image in other colours, and perhaps mirrored or turned. Its map is brought back
    into the frame of the image. Then the cluster of a pixel in one view and that of a pixel a few
    steps away in the other shall tell much of each other. Heads and passes are those of
    :class:`mixem.methods.IIC`.

    Of the views, ``flip``, ``degrees``, ``scale`` and ``shear`` are undone on the maps; colours
    and blur are not; a crop of ``crop_sides`` is the same for both views. Channels after the
    third, such as infrared, keep their values.

    Args:
        backbone: Gives maps of features ``(N, D, h, w)``; has ``out_features`` and ``frame``, see
            :class:`mixem.models.SegmentationNet10a`.
        views: How the second view is drawn.
        settings: See :class:`IICSegmentationSettings`.
        clusters: Number k of clusters of the main head (official ``output_k_B``).

    Attributes:
        sub_head_losses: Mean loss ``(h,)`` of each main sub-head after training.
        chosen: The main sub-head with the lowest of them, which :meth:`maps` asks.

    Raises:
        InputError: If the backbone gives no maps, or the views cannot be undone.
    """

    Settings = IICSegmentationSettings
    sorts = "pixels"
    clusters_itself = True
    rests_parts = True
    outputs = (*Method.outputs, "maps")

    sub_head_losses: torch.Tensor
    chosen: torch.Tensor

    def __init__(
        self,
        backbone: nn.Module,
        views: Augmentation,
        settings: IICSegmentationSettings | None = None,
        *,
        clusters: int = 10,
    ):
        super().__init__(backbone, views, settings, clusters=clusters)
        s = self.settings
        frame = getattr(backbone, "frame", None)
        if frame is None:
            raise InputError(
                f"the backbone, {type(backbone).__name__}, gives no maps; give one that keeps the "
                "places, such as segmentation-net10a, and set its attribute frame"
            )
        _check_views(views)
        self.passes, self.mapping = s.passes, s.mapping
        self.colours = replace(
            views, crop_sides=(), plain_side=None, plain_size=None,
            flip=0.0, degrees=0.0, scale=None, shear=0.0,
        )  # fmt: skip
        counts = {"main": clusters, "over": s.over_clusters}
        self.heads = nn.ModuleDict(
            {
                name: SegmentationHead(self.feature_size, counts[name], s.sub_heads, frame=frame)
                for name in sorted(set(s.passes))
            }
        )
        self.register_buffer("sub_head_losses", torch.zeros(s.sub_heads))
        self.register_buffer("chosen", torch.zeros((), dtype=torch.int64))

    # --- training ---------------------------------------------------------------------------

    def draw_views(self, images: torch.Tensor, generator: torch.Generator) -> PixelViews:
        """The image as it is, and once more in other colours, mirrored and turned."""
        v, corners = self.views, None
        if v.crop_sides:
            corners = _draw_corners(images, v.size, generator)
            images = _cut(images, corners, v.size)
        frames = draw_frames(
            len(images), generator, flip=v.flip, degrees=v.degrees, scale=v.scale, shear=v.shear
        )
        plain = self._plain(images, self.colours)
        other = self.colours(images[:, :3], generator)
        if images.shape[1] > 3:
            other = torch.cat([other, plain[:, 3:]], 1)
        return PixelViews(plain, frames.move(other), frames, corners)

    def losses(
        self, views: PixelViews, name: str, mask: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Loss ``(h,)`` and probability maps ``(h, B, k, H, W)`` of the plain view, for one head.

        Each of the two passes through the network has its own batch statistics.
        """
        s = self.settings
        x = self._probabilities(views.plain, name)
        y = views.frames.back(self._probabilities(views.other, name))
        loss = iic_segmentation(
            x,
            y,
            max_displacement=s.max_displacement,
            mask=mask,
            lamb=s.lamb if name == "main" else s.over_lamb,
            collapsed=s.collapsed,
        )
        return loss, x

    def step(self, views: PixelViews, name: str = "main", mask: torch.Tensor | None = None) -> Step:
        """The mean loss of the sub-heads of one head."""
        losses, x = self.losses(views, name, mask)
        terms = {name: losses.mean()}
        if name == "over":
            return Step(terms)
        some = x.detach()[..., ::METERED, ::METERED].movedim(2, -1)
        return Step(terms, some, {"sub_heads": losses.detach()})

    def targets(self, images: ImageSet) -> torch.Tensor | None:
        """The masks, if only labelled pixels count.

        Raises:
            InputError: If there are none, or they are of another size than the views.
        """
        if not self.settings.labelled_only:
            return None
        masks, side = images.masks, self.views.size
        if masks is None:
            raise InputError(
                f"{images.name}, {images.split}, has no masks, and labelled_only trains on "
                "labelled pixels; set settings.labelled_only=False"
            )
        if not self.views.crop_sides and masks.shape[1:] != (side, side):
            raise InputError(
                f"masks of {masks.shape[1]} x {masks.shape[2]} pixels for views of {side} x "
                f"{side}; with labelled_only give images of the size of the views"
            )
        return masks

    def supervised_step(self, views: PixelViews, labels: torch.Tensor, name: str = "main") -> Step:
        """As :meth:`step`, of the pixels that a mask ``(B, h, w)`` gives a class."""
        if views.corners is not None:
            labels = _cut(labels[:, None], views.corners, self.views.size)[:, 0]
        return self.step(views, name, (labels != IGNORED)[:, None])

    def bounds(self, images: int) -> dict[str, float]:
        """Of answers that are all alike and spread over all clusters."""
        s = self.settings
        found = {"main": 2 * (1 - s.lamb) * math.log(self.clusters)}
        if "over" in self.heads:
            found["over"] = 2 * (1 - s.over_lamb) * math.log(s.over_clusters)
        return found

    def finish(self, images: torch.Tensor, generator: torch.Generator) -> None:
        """Choose the main sub-head with the lowest loss on training views; no mask is looked at.

        Args:
            images: uint8, the training images.
            generator: On the device of the method.
        """
        if len(self.sub_head_losses) == 1:
            return

        def losses(rows: torch.Tensor, part: torch.Tensor) -> torch.Tensor:
            return self.losses(self.draw_views(part, generator), "main")[0]

        at_once = max(1, AT_ONCE // self.views.size**2)
        self.sub_head_losses.copy_(mean_losses(self, images, losses, at_once=at_once))
        self.chosen.copy_(self.sub_head_losses.argmin())

    def settle(self, final: Method) -> None:
        """Take over which sub-head is chosen."""
        self.chosen.copy_(final.get_buffer("chosen"))

    # --- sorting ----------------------------------------------------------------------------

    def prepare(self, images: torch.Tensor) -> torch.Tensor:
        """uint8 images of any size as the network sees them outside training."""
        check_tensor(images)
        if self.channels:
            check_channels(images, self.channels)
        return self._plain(images, self.views).contiguous(memory_format=torch.channels_last)

    def maps(self, images: torch.Tensor) -> torch.Tensor:
        """Cluster probabilities ``(N, k, H, W)`` of the pixels that evaluation sees.

        That is the central square of uint8 images, resized; of the chosen sub-head.
        """
        return self._probabilities(self.prepare(images), "main")[self.chosen]

    def whole_maps(self, images: torch.Tensor) -> torch.Tensor:
        """Cluster probabilities ``(N, k, H, W)`` of all pixels of uint8 images ``(N, C, H, W)``."""
        if self.channels:
            check_channels(images, self.channels)
        pixels = normalise(images.float().div_(255), self.views.mean, self.views.std)
        return self._probabilities(pixels, "main")[self.chosen]

    def assign(self, images: torch.Tensor) -> torch.Tensor:
        """Share ``(N, k)`` of each cluster in the pixels of uint8 images, by probability."""
        return self.maps(images).mean((2, 3))

    def features(self, images: torch.Tensor) -> torch.Tensor:
        """Backbone output ``(N, D)`` of uint8 images, the mean over all places."""
        return self.backbone(self.prepare(images)).mean((2, 3))

    def clusterings(  # type: ignore[override]
        self, images: torch.Tensor, fit: torch.Tensor | None, protocol: KMeansProtocol
    ) -> Iterator[Clustering | Maps]:
        """The chosen sub-head, every one with its loss, and two yardsticks.

        The yardsticks are k-means on the values of pixels, and on the features of the same network
        before any training; both are fitted on some places of ``fit``.
        """
        yield Maps("argmax p", lambda some: self.maps(some).argmax(1))
        if len(self.sub_head_losses) > 1:
            for head, loss in enumerate(self.sub_head_losses.tolist()):
                switches = {"sub_head": head, "loss": round(loss, 6)}
                yield Maps("sub-head", partial(self._of_sub_head, head), switches)
        seen = images if fit is None else fit
        untrained = _untrained(self.backbone)

        def at_random(some: torch.Tensor) -> torch.Tensor:
            return untrained(self.prepare(some))

        for kind, looked_at in (
            ("k-means on pixels", self.prepare),
            ("k-means on an untrained network", at_random),
        ):
            device = self.device
            chosen = mixed(seen)[:FITTED].split(max(1, AT_ONCE // self.views.size**2))
            places = (looked_at(seen[rows].to(device)) for rows in chosen)
            centres = place_centres(places, self.clusters)
            yield Maps(kind, partial(self._nearest, looked_at, centres))

    def _of_sub_head(self, head: int, images: torch.Tensor) -> torch.Tensor:
        return self._probabilities(self.prepare(images), "main")[head].argmax(1)

    def _nearest(
        self, look: Callable[[torch.Tensor], torch.Tensor], centres: torch.Tensor,
        images: torch.Tensor,
    ) -> torch.Tensor:  # fmt: skip
        return nearest_centre(look(images), centres, size=(self.views.size, self.views.size))

    def _probabilities(self, pixels: torch.Tensor, name: str) -> torch.Tensor:
        """``(h, N, k, H, W)`` of pixels as the network sees them."""
        tall, wide = pixels.shape[2:]
        return self.heads[name](self.backbone(pixels), (tall, wide))

    def _plain(self, images: torch.Tensor, views: Augmentation) -> torch.Tensor:
        """What a recipe's evaluation sees, of any number of channels."""
        if images.shape[1] <= 3:
            return views.plain(images)
        return torch.cat([views.plain(part) for part in (images[:, :3], images[:, 3:])], 1)


def _untrained(backbone: nn.Module) -> nn.Module:
    """A copy with weights drawn anew, the same ones always."""
    fresh = copy.deepcopy(backbone).cpu()
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        for part in fresh.modules():
            if isinstance(part, nn.Conv2d | nn.BatchNorm2d):
                part.reset_parameters()
    return fresh.to(next(backbone.parameters()).device).eval()


def _draw_corners(images: torch.Tensor, side: int, generator: torch.Generator) -> torch.Tensor:
    """Top and left ``(B, 2)`` of random crops."""
    n, _, height, width = images.shape
    if min(height, width) < side:
        raise InputError(f"a crop of {side} x {side} out of images of {height} x {width} pixels")
    draw = torch.rand(n * size(), 2, generator=generator, device=images.device)[rank() :: size()]
    spare = torch.tensor([height - side + 1, width - side + 1], dtype=draw.dtype)
    return (draw * spare.to(draw.device, non_blocking=True)).long()


def _cut(images: torch.Tensor, corners: torch.Tensor, side: int) -> torch.Tensor:
    """``(B, C, side, side)`` pixels of images ``(B, C, H, W)`` from their corners on."""
    steps = torch.arange(side, device=images.device)
    rows, columns = (corners[:, i, None] + steps for i in (0, 1))
    number = torch.arange(len(images), device=images.device)[:, None, None]
    return images.movedim(1, -1)[number, rows[:, :, None], columns[:, None]].movedim(-1, 1)


def _check_views(views: Augmentation) -> None:
    """Refuse what cannot be undone on the maps."""
    if views.crop_scale is not None or views.translate or views.cutout:
        raise InputError(
            "views with crop_scale, translate or cutout cannot be undone on maps; leave them out"
        )
    if views.crop_sides not in ((), (views.size,)):
        raise InputError(f"crop_sides are {views.crop_sides}; give ({views.size},), the size")
    if views.plain_size not in (None, views.size):
        raise InputError(f"plain_size is {views.plain_size}; leave it out, maps are not resized")
