"""Speed of whole training steps of MIX'EM, IIC and IMC-SwAV beside the way they were published.

Both sides train one network of one size on the same kind of views, from uint8 images to an update.
As published: views of PIL images, one image at a time, by two workers; float32 in the order NCHW;
a loop over views, components, sub-heads and pairs, as in the authors' code. The losses of both
sides are equal, and a test holds them to it.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from augment import RECIPE, WORKERS, Views, loader
from losses import iic_by_outer_products, infomax_of_a_pair
from PIL import Image
from timing import Row, Run, in_turns, row, shares
from torch import nn
from torchvision import transforms

from mixem.data import ImageSet
from mixem.methods import IIC, IICSettings, IMCSwAV, IMCSwAVSettings, Method, MixEM
from mixem.models import make_backbone
from mixem.training import TrainConfig
from mixem.training.meter import Meter
from mixem.training.step import Pass, Stepper, make_optimiser

SMALL_VIEWS = replace(RECIPE, size=18, crop_scale=(0.05, 0.3))
GOALS = {"MIX'EM": 4.0, "IIC": 5.0, "IMC-SwAV": 4.0}
PLAIN = "as published: PIL, {} workers, float32, loops"
LATE = 10**6  # a step when all that is trained late is


def made(name: str, backbone: str = "small-resnet") -> Method:
    """A method on 32 x 32 colour images, the same weights at every call."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = make_backbone(backbone, in_channels=3, size=32)
        if name == "MIX'EM":
            return MixEM(net, RECIPE).train()
        if name == "IIC":
            return IIC(net, RECIPE, IICSettings(repeats=3, over_clusters=70)).train()
        return IMCSwAV(net, RECIPE, IMCSwAVSettings(small_views=SMALL_VIEWS)).train()


# As published -------------------------------------------------------------------------------------


class Crops(Views):
    """Several kinds of views of each image."""

    def __init__(self, images: torch.Tensor, kinds: list[tuple[Any, int]], *, plain: bool = False):
        super().__init__(images, RECIPE)
        self.kinds = [(Views(images, recipe).transform, count) for recipe, count in kinds]
        self.plain = transforms.ToTensor() if plain else None

    def __getitem__(self, index: int) -> Any:
        """For each kind its views of one image, and before them the plain view if wanted."""
        image = Image.fromarray(self.images[index])
        drawn = [torch.stack([draw(image) for _ in range(n)]) for draw, n in self.kinds]
        return [self.plain(image)[None], *drawn] if self.plain else drawn


def nt_xent_loop(z1: torch.Tensor, z2: torch.Tensor, temperature: float) -> torch.Tensor:
    """NT-Xent by the whole matrix of similarities and a mask, as the common codes write it."""
    z = F.normalize(torch.cat([z1, z2]), dim=1)
    n = len(z1)
    similarity = (z @ z.T / temperature).masked_fill(torch.eye(2 * n, dtype=torch.bool), -torch.inf)
    partner = torch.arange(2 * n).roll(n)
    return F.cross_entropy(similarity, partner.to(z.device))


def association_loop(z: torch.Tensor, p: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Pull and push with loops over the components and their pairs."""
    dominant, zero = p.detach().argmax(1), z.new_zeros(1, z.shape[1])
    means, pulls = [], []
    for component in range(p.shape[1]):
        members = torch.cat([z[dominant == component], zero])
        mean = members.mean(0)
        means.append(mean)
        pulls.append((members - mean).norm(dim=1).mean())
    pairs = [(a - b).norm() for i, a in enumerate(means) for j, b in enumerate(means) if i != j]
    return torch.stack(pulls).mean(), -torch.stack(pairs).mean()


def mixem_loss(method: MixEM, views: list[torch.Tensor]) -> torch.Tensor:
    """All terms, a view at a time; batch statistics are those of both views, as in ours."""
    s = method.settings
    features = method.backbone(views[0].transpose(0, 1).flatten(0, 1)).chunk(2)
    mixed = [method.mixture(h) for h in features]
    loss = nt_xent_loop(mixed[0][0], mixed[1][0], s.temperature)
    for z, p in mixed:
        mean = p.mean(0)
        loss = loss + s.diversity_weight * (mean * mean.log()).sum()
        loss = loss + s.confidence_weight * (1 - p.max(1).values).mean()
        pull, push = association_loop(z, p)
        loss = loss + s.pull_weight * pull + s.push_weight * push
    return loss


def iic_loss(method: IIC, views: list[torch.Tensor]) -> torch.Tensor:
    """Pairs of the plain view with each transformed one, a sub-head at a time."""
    plain, others = views
    repeats = others.shape[1]
    copies = plain[:, 0].repeat(repeats, 1, 1, 1)
    head = method.heads["main"]
    p = head(method.backbone(copies))
    q = head(method.backbone(others.transpose(0, 1).flatten(0, 1)))
    return torch.stack([iic_by_outer_products(*pair) for pair in zip(p, q, strict=True)]).mean()


def codes_loop(scores: torch.Tensor, epsilon: float, iterations: int) -> torch.Tensor:
    """Sinkhorn as SwAV's code has it: rows and columns in turns."""
    q = ((scores - scores.max()) / epsilon).exp().T
    q = q / q.sum()
    for _ in range(iterations):
        q = q / q.sum(1, keepdim=True) / len(q)
        q = q / q.sum(0, keepdim=True) / q.shape[1]
    return (q * q.shape[1]).T


def imc_swav_loss(method: IMCSwAV, views: list[torch.Tensor]) -> torch.Tensor:
    """Every view alone through the network, and loops over targets and over pairs."""
    s = method.settings
    features = [method.backbone(view) for group in views for view in group.unbind(1)]
    scores = [method.compare(h) for h in features]
    swapped = []
    for target in range(2):
        code = codes_loop(scores[target].detach(), s.epsilon, s.iterations)
        for other, score in enumerate(scores):
            if other != target:
                swapped.append(-(code * (score / s.temperature).log_softmax(1)).sum(1).mean())
    logits = [method.head(h.detach()) for h in features]
    us = [(score.detach() / s.temperature).softmax(1) for score in scores]
    pairs = [infomax_of_a_pair(y.softmax(1), u) for y in logits for u in us]
    beyond = torch.stack([(y.abs() - 5).clamp(min=0).square().mean() for y in logits]).mean()
    return torch.stack(swapped).mean() + torch.stack(pairs).mean() + s.penalty_weight * beyond


LOSSES: dict[str, Callable[[Any, list[torch.Tensor]], torch.Tensor]] = {
    "MIX'EM": mixem_loss,
    "IIC": iic_loss,
    "IMC-SwAV": imc_swav_loss,
}


def pictures(name: str, images: torch.Tensor) -> Crops:
    """The views that the published way draws, an image at a time."""
    if name == "IIC":
        return Crops(images, [(RECIPE, 3)], plain=True)
    return Crops(images, [(RECIPE, 2), *[(SMALL_VIEWS, 4)] * (name == "IMC-SwAV")])


def published_step(name: str, method: Method) -> Callable[[list[torch.Tensor]], torch.Tensor]:
    """From views to an update, as the authors' scripts do it."""
    optimiser = torch.optim.Adam(method.parameters())

    def step(views: list[torch.Tensor]) -> torch.Tensor:
        loss = LOSSES[name](method, views)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        return loss

    return step


# Ours ---------------------------------------------------------------------------------------------


def our_epoch(method: Method, images: torch.Tensor, device: str, batch_size: int) -> Run:
    """The steps of one pass by the training loop's own :class:`Stepper`."""
    at = torch.device(device)
    method.to(at, memory_format=torch.channels_last)  # type: ignore[call-overload]
    config = TrainConfig(batch_size=batch_size)
    optimiser = make_optimiser(method, config, at)
    stepper = Stepper(method, optimiser, device=at, precision="bfloat16")
    name = "main" if "main" in method.passes else method.passes[0]
    one = Pass(method, name, ImageSet(images), config, images.to(at))
    meter = Meter()

    def epoch() -> None:
        order = one.order(0, 0)
        for position in range(one.steps):
            stepper.step(one, order, meter, position=position, step=LATE)

    return epoch


def compare(
    name: str, device: str, *, batch_size: int = 256, batches: int = 2, rounds: int = 5
) -> Row:
    """Both ways in turns; milliseconds a step."""
    images = torch.randint(256, (batch_size * batches, 3, 32, 32), dtype=torch.uint8)
    ours = our_epoch(made(name), images, device, batch_size)
    theirs: nn.Module = made(name).to(device)
    theirs.before_step(LATE)  # type: ignore[operator]
    step = published_step(name, theirs)  # type: ignore[arg-type]
    batch_loader = loader(pictures(name, images), batch_size)

    def published_epoch() -> None:
        for views in batch_loader:
            step([view.to(device, non_blocking=True) for view in views])

    against = PLAIN.format(WORKERS)
    times = in_turns({"ours": ours, against: published_epoch}, device=device, rounds=rounds)
    each = {who: [ms / batches for ms in spent] for who, spent in times.items()}
    title = f"{name} step, small ResNet, batch {batch_size}"
    return row(title, each, "ours", against, goal=GOALS[name], why=partial(shares, ours, device))


def rows(device: str) -> Iterator[Row]:
    """A row for each method."""
    for name in LOSSES:
        yield compare(name, device)
