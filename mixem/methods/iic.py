"""IIC (Ji, Henriques and Vedaldi 2019): clusters that two views of an image agree on."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Literal, Self

import torch
from torch import nn

from mixem.clustering import KMeansProtocol, consensus
from mixem.data import Augmentation
from mixem.errors import InputError
from mixem.losses import iic
from mixem.methods.base import Clustering, Method, MethodSettings, Step, at_least, extract
from mixem.methods.heads import Agreement, begin_at_centres, mean_losses, require_start
from mixem.models import SubHeads

__all__ = ["IIC", "IICSettings"]

JUDGED = 256  # images at a time for the loss by which a sub-head is chosen


@dataclass(frozen=True)
class IICSettings(MethodSettings):
    """What views, heads and loss are made of.

    Attributes:
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
        plain_views: How the plain view is drawn, tf1, at the size of the others; None for the
            central square as evaluation sees it.
        over_split: Images of the "over" passes; None for those of the others.
        mapping: How clusters get a class when they are scored: "one-to-one", or "majority" of the
            labels of the images k-means would be fitted on (IIC+).
        agreeing: Sub-heads with the lowest losses whose mean counts; 1 for the best alone.
        head_start: Of the main head: "random" as ``head_std`` says, or "k-means", see
            ``mixem.methods.heads.begin_at_centres``.
    """

    over_clusters: int = 50
    sub_heads: int = 5
    repeats: int = 5
    passes: tuple[str, ...] = ("main", "main", "over")
    lamb: float = 1.0
    head_std: float | None = 0.01
    clear_steps: int = 0
    plain_views: Augmentation | None = None
    over_split: str | None = None
    mapping: Literal["one-to-one", "majority"] = "one-to-one"
    agreeing: int = field(default=1, metadata={"source": "cluster_eval.py: one"})
    head_start: Literal["random", "k-means"] = field(
        default="random", metadata={"source": "the official code"}
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        require_start(self.head_start)
        at_least(self, over_clusters=2, sub_heads=1, repeats=1, clear_steps=0, lamb=0, agreeing=1)
        if self.agreeing > self.sub_heads:
            raise InputError(f"{self.agreeing} of {self.sub_heads} sub-heads agree; give fewer")
        if self.head_std is not None:
            at_least(self, head_std=0)
        if "main" not in self.passes or set(self.passes) - {"main", "over"}:
            raise InputError(f"passes are {self.passes!r}; give 'main', and 'over' if wanted")
        if self.mapping not in ("one-to-one", "majority"):
            raise InputError(f"mapping is {self.mapping!r}; give 'one-to-one' or 'majority'")

    def splits(self) -> dict[str, str]:
        """The "over" passes may have images of their own."""
        return {"over": self.over_split} if self.over_split else {}

    def elsewhere(self) -> Self:
        """Without the split."""
        return replace(self, over_split=None)


class IIC(Method):
    """A trunk with two heads of classifiers, trained by the mutual information of two views.

    An epoch consists of passes over the images, each of which trains the trunk and one head: the
    main head, with as many clusters as are wanted, or the overclustering head, with more.
    Single-head training (IIC+) has main passes only.

    Args:
        backbone: Gives the features; has ``out_features``.
        views: How the transformed view is drawn, tf2 in the official code.
        settings: See :class:`IICSettings`.
        clusters: Number k of clusters of the main head (official ``output_k_B``).

    Attributes:
        sub_head_losses: Mean loss ``(h,)`` of each main sub-head after training.
        chosen: The main sub-head with the lowest of them.
        agreement: The main sub-heads that :meth:`assign` asks.
    """

    Settings = IICSettings
    clusters_itself = True
    rests_parts = True
    outputs = (*Method.outputs, "sub_heads")

    sub_head_losses: torch.Tensor
    chosen: torch.Tensor

    def __init__(
        self,
        backbone: nn.Module,
        views: Augmentation,
        settings: IICSettings | None = None,
        *,
        clusters: int = 10,
    ):
        super().__init__(backbone, views, settings, clusters=clusters)
        s = self.settings
        self.passes, self.mapping = s.passes, s.mapping
        self.plain_views = s.plain_views and replace(s.plain_views, size=views.size)
        self.drawn = views
        self.pairs: torch.Tensor | None = None
        self.heads = nn.ModuleDict(
            {"main": SubHeads(self.feature_size, clusters, s.sub_heads, std=s.head_std)}
        )
        if "over" in s.passes:
            self.heads["over"] = SubHeads(
                self.feature_size, s.over_clusters, s.sub_heads, std=s.head_std
            )
        self.register_buffer("sub_head_losses", torch.zeros(s.sub_heads))
        self.register_buffer("chosen", torch.zeros((), dtype=torch.int64))
        self.agreement = Agreement(s.agreeing, clusters)

    def begin(self, images: torch.Tensor, generator: torch.Generator) -> None:
        """Set the main head to its start."""
        super().begin(images, generator)
        if self.settings.head_start == "k-means":
            begin_at_centres(self.heads["main"].get_submodule("linear"), self, images, generator)

    def companions(self, images: torch.Tensor) -> torch.Tensor | None:
        """See :meth:`mixem.methods.Method.companions`."""
        self.pairs = super().companions(images)
        return self.pairs

    def before_step(self, step: int) -> None:
        """Cut nothing out of the views of the first steps."""
        clear = step < self.settings.clear_steps
        self.drawn = replace(self.views, cutout=0.0) if clear else self.views

    def draw_views(self, images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """The plain view and r transformed ones: uint8 ``(B, C, h, w)`` to ``(1 + r, B, ...)``."""
        plain = (
            self.plain_views(images, generator) if self.plain_views else self.views.plain(images)
        )
        others = self.drawn.several(images, self.settings.repeats, generator)
        return torch.cat([plain.unsqueeze(0), others])

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
        return iic(p, q, lamb=self.settings.lamb), p

    def step(self, views: torch.Tensor, name: str = "main") -> Step:
        """The mean loss of the sub-heads of one head."""
        losses, p = self.losses(views, name)
        terms = {name: losses.mean()}
        if name == "over":
            return Step(terms)
        return Step(terms, p.detach(), {"sub_heads": losses.detach()})

    def bounds(self, images: int) -> dict[str, float]:
        """Of answers that are all alike and spread over all clusters."""
        of_entropies = 2 * (1 - self.settings.lamb)
        counts = {"main": self.clusters, "over": self.settings.over_clusters}
        return {name: of_entropies * math.log(counts[name]) for name in self.heads}

    def finish(self, images: torch.Tensor, generator: torch.Generator) -> None:
        """Choose the main sub-head with the lowest loss on training views (``cluster_eval.py``).

        Args:
            images: uint8, the training images.
            generator: On the device of the method.
        """
        pairs = self.companions(images) if self.pairs is None else self.pairs
        self.drawn = self.views  # whether the last step was in this sitting or in an earlier one

        def losses(rows: torch.Tensor, part: torch.Tensor) -> torch.Tensor:
            if pairs is None:
                return self.losses(self.draw_views(part, generator), "main")[0]
            column = torch.randint(
                pairs.shape[1], (len(rows),), generator=generator, device=part.device
            )
            others = pairs[rows.to(pairs.device), column.to(pairs.device)].to(images.device)
            views = self.draw_pairs(part, images[others].to(part.device), generator)
            return self.losses(views, "main")[0]

        self.sub_head_losses.copy_(mean_losses(self, images, losses, at_once=JUDGED))
        self.chosen.copy_(self.sub_head_losses.argmin())
        p = torch.empty(self.settings.sub_heads, 0, self.clusters)
        if self.settings.agreeing > 1:
            p = extract(self, images, "sub_heads").transpose(0, 1)
        self.agreement.choose(self.sub_head_losses.cpu(), p)

    def settle(self, final: Method) -> None:
        """Take over which sub-head is chosen, and which agree."""
        self.chosen.copy_(final.get_buffer("chosen"))
        self.agreement.load_state_dict(final.get_submodule("agreement").state_dict())

    def sub_heads(self, images: torch.Tensor) -> torch.Tensor:
        """Cluster probabilities ``(N, h, k)`` of all main sub-heads for uint8 images."""
        return self.heads["main"](self.features(images)).transpose(0, 1)

    def assign(self, images: torch.Tensor) -> torch.Tensor:
        """Cluster probabilities ``(N, k)`` of the sub-heads that count."""
        return self.agreement(self.sub_heads(images).transpose(0, 1))

    def clusterings(
        self, images: torch.Tensor, fit: torch.Tensor | None, protocol: KMeansProtocol
    ) -> Iterator[Clustering]:
        """The sub-heads that count, what all agree on, then every one with its loss."""
        p = extract(self, images, "sub_heads").transpose(0, 1)
        fitted = found = p.argmax(2)
        if self.mapping == "majority" and fit is not None:
            fitted = extract(self, fit, "sub_heads").argmax(2).T
        chosen = int(self.chosen)
        main = found[chosen]
        if self.settings.agreeing > 1:
            main = extract(self, images, "assign").argmax(1)
        yield Clustering("argmax p", main, fitted=fitted[chosen])
        if self.mapping == "one-to-one" and len(p) > 1:
            yield Clustering("consensus", consensus(p, like=chosen).argmax(1))
        for head, loss in enumerate(self.sub_head_losses.tolist()):
            switches = {"sub_head": head, "loss": round(loss, 6)}
            yield Clustering("sub-head", found[head], switches, fitted[head])
