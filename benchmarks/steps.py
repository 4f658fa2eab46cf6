"""Speed of whole training steps: SimCLR's on a small net, and ResNet-18's beside the peak."""

from collections.abc import Callable, Iterator
from functools import partial

import torch
from augment import RECIPE, WORKERS, Views, loader
from timing import Row, Run, Speed, in_turns, row, shares
from torch import nn

from mixem.experiments import get
from mixem.losses import nt_xent
from mixem.models import ProjectionHead, make_backbone
from mixem.profile import Profile, profile

PEAK_GOALS = {"cpu": 0.8, "cuda": 0.35}  # of the network alone; of the whole step
EPOCH_GOALS = {"cifar10/simclr": 1.2, "cifar10/imc-swav": 2.0}  # seconds on an H200


def network(backbone: str, device: str) -> nn.Module:
    """A backbone for 32 x 32 colour images and SimCLR's head, the same weights at every call."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = make_backbone(backbone, in_channels=3, size=32)
        return nn.Sequential(net, ProjectionHead(net.out_features, 32)).to(device).train()


def our_step(net: nn.Module, device: str) -> Callable[[torch.Tensor], torch.Tensor]:
    """As :func:`mixem.training.train` makes it: from uint8 images on the device to an update."""
    net = net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimiser = torch.optim.Adam(net.parameters(), fused=True)
    generator = torch.Generator(device).manual_seed(0)
    kind = torch.device(device).type

    def step(images: torch.Tensor) -> torch.Tensor:
        views = torch.cat([RECIPE(images, generator) for _ in range(2)])
        views = views.contiguous(memory_format=torch.channels_last)
        with torch.autocast(kind, torch.bfloat16):
            z1, z2 = net(views).chunk(2)
        loss = nt_xent(z1, z2)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        return loss

    return step


def usual_step(net: nn.Module) -> Callable[[torch.Tensor], torch.Tensor]:
    """As lightly's examples make it: from the two views of each image to an update."""
    from lightly.loss import NTXentLoss

    criterion = NTXentLoss(temperature=0.5)
    optimiser = torch.optim.Adam(net.parameters())

    def step(views: torch.Tensor) -> torch.Tensor:
        loss = criterion(net(views[:, 0]), net(views[:, 1]))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        return loss

    return step


def simclr(device: str, *, batch_size: int = 256, batches: int = 4, rounds: int = 5) -> list[Row]:
    """SimCLR on a small net from images to update, ours and as usual; milliseconds a step."""
    images = torch.randint(256, (batch_size * batches, 3, 32, 32), dtype=torch.uint8)
    held = images.to(device)
    ours = our_step(network("small-resnet", device), device)
    theirs = usual_step(network("small-resnet", device))
    pictures = loader(Views(images, RECIPE, views=2), batch_size)

    def our_epoch() -> None:
        for index in torch.randperm(len(held), device=device).split(batch_size):
            ours(held[index])

    def usual_epoch() -> None:
        for views in pictures:
            theirs(views.to(device, non_blocking=True))

    usual = f"PIL, {WORKERS} workers, float32, lightly's loss"
    runs: dict[str, Run] = {"ours": our_epoch, usual: usual_epoch}
    times = in_turns(runs, device=device, rounds=rounds)
    times = {name: [ms / batches for ms in spent] for name, spent in times.items()}
    title = f"SimCLR step, small ResNet, batch {batch_size}"
    return [
        row(
            title,
            times,
            "ours",
            usual,
            goal=3.0,
            why=partial(shares, partial(ours, held[:batch_size]), device),
        )
    ]


def shown(found: Profile) -> str:
    """The shares of the parts of the first kind of step."""
    first = found.passes[0]
    return ", ".join(
        f"{name} {ms / first.milliseconds:.0%}"
        for name, ms in sorted(first.parts.items(), key=lambda part: -part[1])
    )


def resnet18(device: str, *, batch_size: int = 32, rounds: int = 3, steps: int = 2) -> list[Row]:
    """The share that a ResNet-18 step with the CIFAR stem has of the matrix product's speed.

    On a CPU of forward and backward pass, on a GPU of the whole step.
    """
    kind = torch.device(device).type
    experiment = get("cifar10/simclr")
    if kind == "cpu":  # the paper's batch would take half a minute
        experiment = experiment.override(training__batch_size=batch_size)
    found = [
        profile(experiment, device=device, precision="bfloat16", steps=steps) for _ in range(rounds)
    ]
    counted = ("forward", "backward") if kind == "cpu" else None
    times, ideal = [], []
    for one in found:
        first = one.passes[0]
        times.append(sum(first.parts[p] for p in counted) if counted else first.milliseconds)
        ideal.append(1000 * first.operations / one.peak)
    images = torch.randint(256, (batch_size, 3, 32, 32), dtype=torch.uint8, device=device)
    step = our_step(network("resnet18-cifar", device), device)
    share = [fast / slow for slow, fast in zip(times, ideal, strict=True)]
    what = "forward and backward" if counted else "with loss, optimiser and augmentation"
    return [
        Row(
            f"ResNet-18 step, {what}, batch {found[0].passes[0].images}",
            f"a bf16 matrix product's {found[0].peak / 1e9:,.0f} GFLOP/s",
            Speed.of(times),
            Speed.of(ideal),
            Speed.of(share),
            PEAK_GOALS[kind],
            partial(shares, partial(step, images), device),
        )
    ]


def epochs(device: str, *, rounds: int = 3) -> Iterator[Row]:
    """Seconds an epoch of the paper's runs on a GPU, beside the goal."""
    for name, goal in EPOCH_GOALS.items():
        found = [profile(name, device=device) for _ in range(rounds)]
        times = [1000 * one.seconds_an_epoch for one in found]
        ratio = Speed.of([1000 * goal / ms for ms in times])
        goals = Speed(1000 * goal, 1000 * goal, 1000 * goal)
        yield Row(
            f"an epoch of `{name}`", "the goal for an H200", Speed.of(times), goals, ratio, 1.0,
            partial(shown, found[0]),
        )  # fmt: skip


def rows(device: str) -> Iterator[Row]:
    """All steps; epochs of the paper's runs on a GPU only."""
    yield from simclr(device)
    yield from resnet18(device)
    if torch.device(device).type == "cuda":
        yield from epochs(device)
