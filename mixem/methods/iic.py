"""IIC (Ji, Henriques and Vedaldi 2019): clusters that two views of an image agree on."""

import dataclasses
import math

import torch
from torch import nn

from mixem.data import Augmentation
from mixem.errors import InputError
from mixem.losses import iic
from mixem.methods.base import Method, Step, mixed
from mixem.models import SubHeads


class IIC(Method):
    """A trunk with two heads of classifiers, trained by the mutual information of two views.

    An epoch consists of passes over the images, each of which trains the trunk and one head: the
    main head, with as many clusters as are wanted, or the overclustering head, with more.
    Single-head training (IIC+) has main passes only.

    Args:
        backbone: Gives the features; has ``out_features``.
        views: How the transformed view is drawn, tf2 in the official code.
        clusters: Number k of clusters of the main head (official ``output_k_B``).
        plain_views: How the plain view is drawn, tf1; None for the central square as evaluation
            sees it.
        over_clusters: Clusters of the overclustering head (``output_k_A``).
        sub_heads: Classifiers a head (``num_sub_heads``), which differ in their random start.
        repeats: Transformed views r of an image, each paired with the one plain view
            (``num_dataloaders``).
        passes: "main" and "over" in the order of an epoch (``head_B_epochs``, ``head_A_epochs``,
            ``head_A_first``).
        lamb: See :func:`mixem.losses.iic`.
        head_std: See :class:`mixem.models.SubHeads`.
        clear_steps: First steps, whose views have no cutout; 0 in the paper. Clusters form
            sooner in whole images.

    Attributes:
        sub_head_losses: Mean loss ``(h,)`` of each main sub-head after training.
        chosen: The main sub-head with the lowest of them, which :meth:`assign` asks.
    """

    sub_head_losses: torch.Tensor
    chosen: torch.Tensor
    clusters_itself = True
    rests_parts = True

    def __init__(
        self,
        backbone: nn.Module,
        views: Augmentation,
        *,
        clusters: int = 10,
        plain_views: Augmentation | None = None,
        over_clusters: int = 50,
        sub_heads: int = 5,
        repeats: int = 5,
        passes: tuple[str, ...] = ("main", "main", "over"),
        lamb: float = 1.0,
        head_std: float | None = 0.01,
        clear_steps: int = 0,
    ):
        if "main" not in passes or set(passes) - {"main", "over"}:
            raise InputError(f"passes are {passes!r}; give 'main', and 'over' if wanted")
        if plain_views and plain_views.size != views.size:
            raise InputError(
                f"plain views of {plain_views.size} pixels and views of {views.size}; "
                "give the same size"
            )
        super().__init__(backbone, views, clusters=clusters)
        self.plain_views = plain_views
        self.clear_steps = clear_steps
        self.drawn = views
        self.repeats = repeats
        self.passes = tuple(passes)
        self.lamb = lamb
        self.heads = nn.ModuleDict(
            {"main": SubHeads(self.feature_size, clusters, sub_heads, std=head_std)}
        )
        if "over" in passes:
            self.heads["over"] = SubHeads(self.feature_size, over_clusters, sub_heads, std=head_std)
        self.register_buffer("sub_head_losses", torch.zeros(sub_heads))
        self.register_buffer("chosen", torch.zeros((), dtype=torch.int64))

    def before_step(self, step: int) -> None:
        """Cut nothing out of the views of the first steps."""
        clear = step < self.clear_steps
        self.drawn = dataclasses.replace(self.views, cutout=0.0) if clear else self.views

    def draw_views(self, images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """The plain view and r transformed ones: uint8 ``(B, C, h, w)`` to ``(1 + r, B, ...)``."""
        plain = (
            self.plain_views(images, generator) if self.plain_views else self.views.plain(images)
        )
        return torch.stack([plain, *(self.drawn(images, generator) for _ in range(self.repeats))])

    def losses(self, views: torch.Tensor, name: str) -> tuple[torch.Tensor, torch.Tensor]:
        """Loss ``(h,)`` and probabilities ``(h, B, k)`` of the plain view, for one head.

        The official code pairs r copies of the plain view with the r transformed ones. The joint
        distribution is a sum of products of p and q, so the mean of the r rows q is enough, and
        one pass of the plain view. Each of the two passes has its own batch statistics.
        """
        head = self.heads[name]
        p = head(self.backbone(views[0]))
        q = head(self.backbone(views[1:].flatten(0, 1)))
        q = q.unflatten(1, (len(views) - 1, -1)).mean(1)
        return iic(p, q, lamb=self.lamb), p

    def step(self, views: torch.Tensor, name: str = "main") -> Step:
        """The mean loss of the sub-heads of one head."""
        losses, p = self.losses(views, name)
        terms = {name: losses.mean()}
        bounds = {name: -2 * max(0.0, self.lamb - 1) * math.log(p.shape[-1])}  # of equal answers
        if name == "over":
            return Step(terms, None, bounds)
        return Step(terms, p.detach(), bounds, {"sub_heads": losses.detach()})

    @torch.no_grad()
    def finish(self, images: torch.Tensor, generator: torch.Generator) -> None:
        """Choose the main sub-head with the lowest loss on training views (``cluster_eval.py``).

        Args:
            images: uint8, the training images.
            generator: On the device of the method.
        """
        self.eval()
        device = next(self.parameters()).device
        total = torch.zeros_like(self.sub_head_losses)
        for chosen in mixed(images).split(256):  # among images of one class nothing is to be told
            views = self.draw_views(images[chosen].to(device), generator)
            total += self.losses(views, "main")[0] * len(chosen)
        self.sub_head_losses.copy_(total / len(images))
        self.chosen.copy_(self.sub_head_losses.argmin())

    def embeddings(self, images: torch.Tensor) -> torch.Tensor:
        """The features; IIC has no other embedding."""
        return self.features(images)

    def sub_heads(self, images: torch.Tensor) -> torch.Tensor:
        """Cluster probabilities ``(N, h, k)`` of all main sub-heads for uint8 images."""
        return self.heads["main"](self.features(images)).transpose(0, 1)

    def assign(self, images: torch.Tensor) -> torch.Tensor:
        """Cluster probabilities ``(N, k)`` of the chosen sub-head."""
        return self.sub_heads(images)[:, self.chosen]

    def cluster(self, images: torch.Tensor) -> torch.Tensor:
        """The same as :meth:`assign`."""
        return self.assign(images)
