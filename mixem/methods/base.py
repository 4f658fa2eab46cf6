"""What the training loop and the evaluation ask of a method."""

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import nn

from mixem.data import Augmentation, ImageSet
from mixem.errors import InputError


class Step(NamedTuple):
    """What one batch gives.

    Attributes:
        terms: The weighted loss terms by name; their sum is the loss.
        assignments: Soft assignments ``(B, k)`` of the batch without gradient, or ``(h, B, k)`` of
            h sub-heads, for the collapse meter; None for a method without clusters of its own.
        bounds: For some of the terms, the value a collapsed network would have.
        details: Further numbers, or ``(n,)`` of them, without gradient, that the log keeps the
            means of.
        hits: How often each of several things, such as prototypes, was taken in the batch,
            ``(n,)``; the log keeps how many of them ever were.
    """

    terms: dict[str, torch.Tensor]
    assignments: torch.Tensor | None
    bounds: dict[str, float]
    details: dict[str, torch.Tensor] | None = None
    hits: dict[str, torch.Tensor] | None = None


class Method(nn.Module):
    """A network with a way of drawing views, a loss, features and assignments.

    Args:
        backbone: Maps float images ``(N, C, H, W)`` to features ``(N, D)``; has ``out_features``.
        views: How a training view is drawn; its ``plain`` form is what evaluation sees.
        clusters: Number k of k-means centres that :meth:`cluster` compares with.

    Attributes:
        passes: What an epoch consists of: the names of its passes over the images, in order.
        clusters_itself: The main number scores :meth:`assign`, and not k-means on features.
        rests_parts: Not every step uses all of the network.
    """

    passes: tuple[str, ...] = ("images",)
    clusters_itself = False
    rests_parts = False

    centres: torch.Tensor
    variance: torch.Tensor

    def __init__(self, backbone: nn.Module, views: Augmentation, *, clusters: int):
        super().__init__()
        self.backbone = backbone
        self.views = views
        self.feature_size: int = backbone.out_features  # type: ignore[assignment]
        self.register_buffer("centres", torch.zeros(clusters, self.feature_size))
        self.register_buffer("variance", torch.zeros(()))  # 0: no centres yet

    def before_step(self, step: int) -> None:
        """Told how many steps are done, before each; nothing by default."""

    def draw_views(self, images: torch.Tensor, generator: torch.Generator) -> Any:
        """Two independent views of each image: uint8 ``(B, C, h, w)`` to ``(2, B, C, H, W)``.

        A method may draw others, as its steps want them.
        """
        return torch.stack([self.views(images, generator) for _ in range(2)])

    def step(self, views: Any, name: str = "images") -> Step:
        """Loss terms of a batch of views, in the pass of that name."""
        raise NotImplementedError(f"{type(self).__name__} does not define step")

    def targets(self, images: ImageSet) -> torch.Tensor | None:
        """Labels ``(N,)`` for :meth:`supervised_step`; by default None, and none are looked at."""

    def supervised_step(self, views: Any, labels: torch.Tensor) -> Step:
        """Loss terms of a batch of views and its labels, of a method that has targets."""
        raise NotImplementedError(f"{type(self).__name__} does not define supervised_step")

    def rates(self) -> list[tuple[nn.Module, float]]:
        """The modules that are trained, each with its share of the learning rate."""
        return [(self, 1.0)]

    def finish(self, images: torch.Tensor, generator: torch.Generator) -> None:
        """What is done once after the last epoch, without labels; nothing by default."""

    @property
    def needs_a_batch(self) -> bool:
        """Batch norm has no running statistics, so images are judged by those beside them."""
        norms = (m for m in self.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm))
        return any(norm.running_mean is None for norm in norms)

    def prepare(self, images: torch.Tensor) -> torch.Tensor:
        """uint8 images of any size as the network sees them outside training."""
        if images.ndim != 4 or images.dtype != torch.uint8:
            raise InputError(
                f"images are {images.dtype} of shape {tuple(images.shape)}; "
                "give a uint8 tensor of shape (N, C, H, W)"
            )
        return self.views.plain(images).contiguous(memory_format=torch.channels_last)

    def features(self, images: torch.Tensor) -> torch.Tensor:
        """Backbone output h ``(N, D)`` of uint8 images ``(N, C, H, W)``, not normalised."""
        return self.backbone(self.prepare(images))

    def embeddings(self, images: torch.Tensor) -> torch.Tensor:
        """What the contrastive loss compares, z ``(N, d)``, of uint8 images, not normalised."""
        raise NotImplementedError(f"{type(self).__name__} does not define embeddings")

    def assign(self, images: torch.Tensor) -> torch.Tensor:
        """Cluster probabilities ``(N, k)`` of uint8 images ``(N, C, H, W)``; rows sum to one."""
        raise NotImplementedError(f"{type(self).__name__} does not define assign")

    def keep_centres(self, centres: torch.Tensor, variance: float) -> None:
        """Keep k-means centres ``(k, D)`` of normalised features, saved with the weights.

        Args:
            centres: One row a cluster.
            variance: Mean squared distance of an image to its centre, divided by D.
        """
        self.centres.copy_(centres)
        self.variance.fill_(max(variance, torch.finfo(torch.float32).tiny))

    def cluster(self, images: torch.Tensor) -> torch.Tensor:
        """Cluster probabilities ``(N, k)`` of uint8 images by the kept k-means centres.

        The most probable cluster is the nearest centre of the normalised features. The
        probability is the posterior of equally frequent, equally wide round Gaussians at the
        centres; it ranks images within a run and is not calibrated.
        """
        if not self.variance > 0:
            raise InputError("the method has no cluster centres yet; evaluate the run first")
        h = F.normalize(self.features(images), dim=1)
        distance = torch.cdist(h, self.centres, compute_mode="donot_use_mm_for_euclid_dist")
        return (-(distance**2) / (2 * self.variance)).softmax(1)


def mixed(images: torch.Tensor) -> torch.Tensor:
    """A fixed random order of images ``(N, ...)``, int64 ``(N,)`` on their device.

    For batches whose statistics matter: the files of a folder are often sorted by class.
    """
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(0))
    return order.to(images.device)


@torch.no_grad()
def extract(
    method: Method,
    images: torch.Tensor,
    what: str = "features",
    *,
    batch_size: int = 1024,
    in_order: bool = False,
) -> torch.Tensor:
    """Features, embeddings or assignments of a whole image tensor, batch by batch.

    The method is put into evaluation mode and left as it was found. A network that normalises with
    the batch at hand gets the images :func:`mixed`.

    Args:
        method: A trained method.
        images: uint8 ``(N, C, H, W)``, on any device.
        what: "features", "embeddings", "assign", "cluster", "sub_heads", "logits" or "scores": the
            function of the method to call.
        batch_size: Images a batch.
        in_order: Mix nothing.

    Returns:
        float32 ``(N, ...)`` on the CPU, in the order of the images.
    """
    known = ("features", "embeddings", "assign", "cluster", "sub_heads", "logits", "scores")
    if what not in known or not hasattr(method, what):
        has = ", ".join(name for name in known if hasattr(method, name))
        raise InputError(f"what is {what!r}; {type(method).__name__} has {has}")
    mix = method.needs_a_batch and not in_order
    order = mixed(images) if mix else torch.arange(len(images), device=images.device)
    chosen = order.split(batch_size)
    if method.needs_a_batch:
        if len(images) == 1:
            raise InputError(
                "1 image for a network that normalises with the images given together; give more"
            )
        chosen = order.tensor_split(len(chosen))  # of about the same size
    device = next(method.parameters()).device
    training = method.training
    method.eval()
    try:
        function = getattr(method, what)
        parts = [function(images[rows].to(device)).float().cpu() for rows in chosen]
    finally:
        method.train(training)
    found = torch.cat(parts)
    return found[order.argsort().cpu()] if mix else found
