"""Speed of the losses beside plain implementations of the same formulas, and beside lightly's.

Values and gradients are compared first, in float64; what is timed is a forward and a backward pass.

Where the others are lightly's, nothing had to be changed for them to be equal: its `SwaVLoss`
divides by views and targets as ours does, and with two targets counts the same ten terms. Only
the layout differs: ours takes all views in one tensor, lightly's a list.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import NamedTuple

import torch
import torch.nn.functional as F
from timing import Row, in_turns, row, shares

from mixem.losses import iic, infomax, nt_xent, sinkhorn, swapped_prediction
from mixem.losses.iic import EPS

HEADS, PAIRS = 5, 700  # sub-heads and pairs a batch of IIC's recipes for STL-10 and MNIST
CLUSTERS = (10, 70)  # of STL-10's main and overclustering head
VIEWS, TARGETS, IMAGES, PROTOTYPES = 6, 2, 256, 1000  # of IMC-SwAV's recipe for CIFAR-10

Loss = Callable[[Sequence[torch.Tensor]], torch.Tensor]


class Way(NamedTuple):
    """One implementation of a loss.

    Attributes:
        name: What the table calls it.
        loss: From the leaves to a loss, or to codes, which have no gradient.
        leaves: What the gradient is taken for, in the layout this implementation likes best.
    """

    name: str
    loss: Loss
    leaves: list[torch.Tensor]


def iic_by_matrix_product(p: torch.Tensor, q: torch.Tensor) -> torch.Tensor:
    """IIC's loss of one sub-head, ``(n, k)``, from the formula."""
    joint = p.T @ q
    joint = (joint + joint.T) / 2
    return minus_information(joint / joint.sum())


def iic_by_outer_products(p: torch.Tensor, q: torch.Tensor) -> torch.Tensor:
    """The same with the joint distribution as the official ``IID_losses.py`` sums it."""
    joint = (p.unsqueeze(2) * q.unsqueeze(1)).sum(0)
    joint = (joint + joint.T) / 2
    return minus_information(joint / joint.sum())


def minus_information(joint: torch.Tensor) -> torch.Tensor:
    """Minus the mutual information of a joint distribution, clamped as in the official code.

    The official code overwrites by Boolean indices, which PyTorch refuses to differentiate today,
    and computes a second loss for its log; without either this is the faster.
    """
    row = joint.sum(1, keepdim=True).clamp(min=EPS)
    column = joint.sum(0, keepdim=True).clamp(min=EPS)
    joint = joint.clamp(min=EPS)
    return -(joint * (joint.log() - row.log() - column.log())).sum()


def iic_ways(clusters: int, device: str) -> list[Way]:
    """Ours, and the two plain ones in a loop over the sub-heads, on the same probabilities."""
    generator = torch.Generator().manual_seed(0)
    logits = 3 * torch.randn(2, HEADS, PAIRS, clusters, generator=generator)
    views = logits.softmax(3).to(device)

    def looped(loss: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]) -> Loss:
        def mean(leaves: Sequence[torch.Tensor]) -> torch.Tensor:
            pairs = zip(leaves[:HEADS], leaves[HEADS:], strict=True)
            return torch.stack([loss(p, q) for p, q in pairs]).mean()

        return mean

    def separate() -> list[torch.Tensor]:  # a tensor for each view and sub-head
        return [p.clone().requires_grad_() for p in views.flatten(0, 1)]

    return [
        Way(
            "mixem.losses.iic, one batched product",
            lambda leaves: iic(*leaves).mean(),
            [view.clone().requires_grad_() for view in views],
        ),
        Way("a loop over sub-heads, as published", looped(iic_by_outer_products), separate()),
        Way("a loop over sub-heads, matrix products", looped(iic_by_matrix_product), separate()),
    ]


def infomax_ways(device: str, *, images: int = IMAGES, prototypes: int = PROTOTYPES) -> list[Way]:
    """Ours, and a loop over all pairs of views; as in the method, the scores are given."""
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(VIEWS, images, 10, generator=generator).to(device)
    scores = cosines(VIEWS * images, prototypes, device).unflatten(0, (VIEWS, images))

    def ours(leaves: Sequence[torch.Tensor]) -> torch.Tensor:
        return infomax(leaves[0], scores.to(leaves[0].dtype))

    def loop(leaves: Sequence[torch.Tensor]) -> torch.Tensor:
        us = (scores.to(leaves[0].dtype) / 0.1).softmax(2)
        pairs = [infomax_of_a_pair(y, u) for y in leaves[0].softmax(2) for u in us]
        return torch.stack(pairs).mean()

    return [
        Way("mixem.losses.infomax, one product", ours, [logits.clone().requires_grad_()]),
        Way("a loop over the pairs of views", loop, [logits.clone().requires_grad_()]),
    ]


def infomax_of_a_pair(y: torch.Tensor, u: torch.Tensor) -> torch.Tensor:
    """H(Y|U) - 4 H(Y) of one view's clusters and one view's prototypes, from the formula."""
    joint = y.T @ u / len(y)
    cluster, prototype = joint.sum(1), joint.sum(0)
    given = -(joint * (joint.log() - prototype.log())).sum()
    return given + 4 * (cluster * cluster.log()).sum()


def sinkhorn_ways(images: int, prototypes: int, device: str) -> list[Way]:
    """Codes of random unit vectors, ours and lightly's."""
    from lightly.loss.swav_loss import sinkhorn as theirs

    scores = cosines(images, prototypes, device)
    return [
        Way("mixem.losses.sinkhorn", lambda leaves: sinkhorn(leaves[0]), [scores.clone()]),
        Way("lightly's sinkhorn", lambda leaves: theirs(leaves[0]), [scores.clone()]),
    ]


def swapped_ways(device: str, *, images: int = IMAGES, prototypes: int = PROTOTYPES) -> list[Way]:
    """The swapped prediction of two large and four small views, ours and lightly's."""
    from lightly.loss import SwaVLoss

    theirs = SwaVLoss()
    scores = cosines(VIEWS * images, prototypes, device).unflatten(0, (VIEWS, images))
    return [
        Way(
            "mixem.losses.swapped_prediction",
            lambda leaves: swapped_prediction(leaves[0]),
            [scores.clone().requires_grad_()],
        ),
        Way(
            "lightly's SwaVLoss",
            lambda leaves: theirs(leaves[:TARGETS], leaves[TARGETS:]).squeeze(),
            [view.clone().requires_grad_() for view in scores],
        ),
    ]


def nt_xent_ways(images: int, size: int, device: str) -> list[Way]:
    """NT-Xent on random embeddings, ours and lightly's."""
    from lightly.loss import NTXentLoss

    theirs = NTXentLoss(temperature=0.5)
    views = torch.randn(2, images, size, generator=torch.Generator().manual_seed(0)).to(device)

    def leaves() -> list[torch.Tensor]:
        return [view.clone().requires_grad_() for view in views]

    return [
        Way("mixem.losses.nt_xent", lambda leaves: nt_xent(*leaves), leaves()),
        Way("lightly's NTXentLoss", lambda leaves: theirs(*leaves), leaves()),
    ]


def cosines(images: int, prototypes: int, device: str) -> torch.Tensor:
    """Of random unit vectors of length 128, as an untrained network gives them."""
    generator = torch.Generator().manual_seed(0)
    x = F.normalize(torch.randn(images + prototypes, 128, generator=generator), dim=1)
    return (x[:images] @ x[images:].T).to(device)


def check(ways: Sequence[Way]) -> None:
    """See that all give the values and gradients of the first, in float64.

    Raises:
        AssertionError: If not.
    """
    found = []
    for way in ways:
        leaves = [leaf.detach().double().requires_grad_(leaf.requires_grad) for leaf in way.leaves]
        result = way.loss(leaves)
        gradients = torch.autograd.grad(result, leaves) if result.requires_grad else ()
        found.append(torch.cat([x.flatten() for x in (result, *gradients)]))
    for way, values in zip(ways, found, strict=True):
        assert torch.allclose(values, found[0], rtol=1e-9, atol=1e-14), (
            f"{way.name} gives something else"
        )


def once(way: Way) -> None:
    """A forward pass, and a backward pass where there is one."""
    loss = way.loss(way.leaves)
    if loss.requires_grad:
        torch.autograd.grad(loss, way.leaves)


def comparisons(device: str) -> Iterator[tuple[str, list[Way], float | None]]:
    """What is compared, the ways, ours first, and the goal for the one after it."""
    for clusters, goal in zip(CLUSTERS, (3.0, 12.0), strict=True):
        title = f"IIC, {HEADS} sub-heads, n {PAIRS}, k {clusters}"
        yield title, iic_ways(clusters, device), goal
    for images, size in ((256, 32), (256, 128), (1024, 32), (1024, 128)):
        yield f"NT-Xent, B {images}, d {size}", nt_xent_ways(images, size, device), 2.0
    for images, prototypes in ((IMAGES, PROTOTYPES), (1024, 3000)):
        title = f"Sinkhorn, B {images}, K {prototypes}"
        yield title, sinkhorn_ways(images, prototypes, device), 1.2
    small = VIEWS - TARGETS
    title = f"swapped prediction, {TARGETS} + {small} views, B {IMAGES}, K {PROTOTYPES}"
    yield title, swapped_ways(device), 1.7
    title = f"infomax, {VIEWS} views, B {IMAGES}, k 10, K {PROTOTYPES}"
    yield title, infomax_ways(device), None


def rows(device: str, *, rounds: int = 15, seconds: float = 0.1) -> Iterator[Row]:
    """Each loss beside the others, in turns."""
    for title, ways, goal in comparisons(device):
        check(ways)
        yield from compare(title, ways, goal, device=device, rounds=rounds, seconds=seconds)


def compare(
    title: str,
    ways: Sequence[Way],
    goal: float | None,
    *,
    device: str,
    rounds: int,
    seconds: float,
) -> Iterator[Row]:
    """The first way beside each of the others; the goal is for the second."""
    runs = {way.name: partial(once, way) for way in ways}
    times = in_turns(runs, device=device, rounds=rounds, seconds=seconds)
    ours, *others = runs
    why = partial(shares, runs[ours], device)
    for other in others:
        yield row(title, times, ours, other, goal=goal if other == others[0] else None, why=why)
