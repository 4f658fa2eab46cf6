"""How long and how fast a method is trained, and the circumstances of one sitting."""

import math
from dataclasses import dataclass, field, replace
from typing import Any

from mixem.data import ImageSet
from mixem.errors import InputError, require_whole

__all__ = ["Sitting", "TrainConfig"]


def _default(value: Any, source: str) -> Any:
    """A field whose default has a source of its own."""
    return field(default=value, metadata={"source": source})


@dataclass(frozen=True)
class TrainConfig:
    """How a method is optimised; the defaults are MIX'EM's ``config.yaml`` and ``train.py``.

    Attributes:
        epochs: Passes over the images; 0 for a method that trains nothing.
        least_steps: Of the whole training: with so few images that ``epochs`` are fewer steps,
            there are more epochs.
        batch_size: Images a batch. What does not fill a step is left out; a set smaller than one
            batch is a batch. Of several processes each takes its part of it.
        accumulate: Batches whose gradients are added up before the weights change. The losses
            see one batch at a time.
        learning_rate: Of the optimiser; a method may train a part of itself at a share of it.
        weight_decay: Of the optimiser, on all parameters.
        constant_epochs: Epochs before the cosine sets in; as many as ``epochs`` for a constant
            rate.
        schedule: "epochs" for MIX'EM's cosine, one rate an epoch; "steps" for one that falls with
            every step and ends at 0; "milestones" for IMC-SwAV's stairs.
        milestones: Shares of the run after which the rate is multiplied by ``decay``.
        decay: See ``milestones``.
        warmup_steps: Steps over which the rate rises linearly, the last of them with the full one.
        betas: Of Adam: how much of the mean gradient and of its square is kept at a step.
        optimiser: "adam", "adamw" (its weight decay apart from the gradient) or "sgd".
        momentum: Of "sgd".
        snapshots: Epochs after which the weights are kept as well, 0 for the start; scored when
            the run is, for the learning curve of its record. Later ones than the last are ignored.
        scaled_from: Epochs of the whole schedule, if this is one that was shortened; see
            :meth:`scaled`.
    """

    epochs: int = 200
    batch_size: int = 512
    learning_rate: float = 1e-4
    weight_decay: float = 1e-5
    constant_epochs: int = 10
    schedule: str = "epochs"
    milestones: tuple[float, ...] = _default((), "not used without the schedule 'milestones'")
    decay: float = _default(0.4, "not used without the schedule 'milestones'")
    warmup_steps: int = _default(0, "no warm-up")
    betas: tuple[float, float] = _default((0.9, 0.999), "PyTorch's default")
    snapshots: tuple[int, ...] = _default((), "this book")
    accumulate: int = _default(1, "this book: no accumulation")
    optimiser: str = _default("adam", "the official code of all three papers")
    momentum: float = _default(0.9, "not used without the optimiser 'sgd'")
    scaled_from: int | None = _default(None, "the whole schedule")
    least_steps: int = _default(0, "this book: as many as the epochs have")

    def __post_init__(self) -> None:
        for name, least in (
            ("epochs", 0), ("batch_size", 2), ("constant_epochs", 0), ("warmup_steps", 0),
            ("accumulate", 1), ("least_steps", 0),
        ):  # fmt: skip
            require_whole(name, getattr(self, name), least)
        if self.schedule not in ("epochs", "steps", "milestones"):
            raise InputError(
                f"schedule is {self.schedule!r}; give 'epochs', 'steps' or 'milestones'"
            )
        shares = all(_number(share) and 0 < share < 1 for share in self.milestones)
        if not (shares and 0 < self.decay <= 1):
            raise InputError(
                f"milestones {self.milestones}, decay {self.decay}; give shares of the run between "
                "0 and 1, and a decay above 0, at most 1"
            )
        whole = [isinstance(epoch, int) and not isinstance(epoch, bool) for epoch in self.snapshots]
        if not (all(whole) and all(epoch >= 0 for epoch in self.snapshots)):
            raise InputError(f"snapshots are {self.snapshots}; give epochs, such as (0, 1, 10)")
        if self.optimiser not in ("adam", "adamw", "sgd"):
            raise InputError(f"optimiser is {self.optimiser!r}; give 'adam', 'adamw' or 'sgd'")
        if not 0 <= self.momentum < 1:
            raise InputError(f"momentum is {self.momentum}; give a number from 0 on, below 1")
        if len(self.betas) != 2 or not all(_number(b) and 0 <= b < 1 for b in self.betas):
            raise InputError(f"betas are {self.betas}; give two numbers from 0 on, below 1")
        if not (0 < self.learning_rate < math.inf and 0 <= self.weight_decay < math.inf):
            raise InputError(
                f"learning rate {self.learning_rate}, weight decay {self.weight_decay}; "
                "give a positive rate and a decay of at least 0, both finite"
            )

    def lasting(self, steps: int) -> "TrainConfig":
        """These settings with as many epochs as ``least_steps`` asks for.

        Args:
            steps: Of one epoch.
        """
        return replace(self, epochs=max(self.epochs, -(-self.least_steps // max(1, steps))))

    def batch_for(self, images: ImageSet) -> int:
        """Images a batch of these.

        Raises:
            InputError: If ``accumulate`` asks for more images than there are.
        """
        batch = min(self.batch_size, len(images))
        if batch * self.accumulate > len(images):
            raise InputError(
                f"accumulate asks for {self.accumulate} batches of {batch} a step, "
                f"{images.name} has {len(images)} images; give fewer"
            )
        return batch

    def scaled(self, epochs: int) -> "TrainConfig":
        """This training in fewer epochs: all that is counted in epochs or steps shrinks alike.

        At a constant rate it is the beginning of this training.

        >>> short = TrainConfig(epochs=200, constant_epochs=10, snapshots=(0, 1, 100)).scaled(20)
        >>> short.epochs, short.constant_epochs, short.snapshots, short.scaled_from
        (20, 1, (0, 1, 10), 200)

        Raises:
            InputError: Unless there are fewer epochs, and at least one.
        """
        if not 1 <= epochs < self.epochs:
            raise InputError(
                f"{epochs} epochs instead of {self.epochs}; give fewer, and at least 1"
            )

        def less(count: int) -> int:
            return count if self.constant else round(count * epochs / self.epochs)

        kept = {max(1, less(epoch)) if epoch else 0 for epoch in self.snapshots}
        return replace(
            self,
            epochs=epochs,
            constant_epochs=min(epochs, less(self.constant_epochs)),
            warmup_steps=less(self.warmup_steps),
            snapshots=tuple(sorted(epoch for epoch in kept if epoch <= epochs)),
            scaled_from=self.scaled_from or self.epochs,
        )

    @property
    def constant(self) -> bool:
        """The learning rate never changes."""
        if self.schedule == "milestones":
            return not (self.milestones or self.warmup_steps)
        return self.constant_epochs >= self.epochs and not self.warmup_steps

    def rate(self, epoch: int, part: float = 0.0) -> float:
        """Learning rate in an epoch, counted from 0, of which a part in [0, 1) is over.

        Without the warm-up. Constant, then a cosine, or stairs. MIX'EM's cosine has period
        ``epochs``, starts late and so never ends at 0.
        """
        if self.schedule == "milestones":
            passed = sum(epoch >= share * self.epochs for share in self.milestones)
            return self.learning_rate * self.decay**passed
        late = epoch - self.constant_epochs
        if self.schedule == "epochs":
            progress = (late + 1) / self.epochs
        else:
            progress = (late + part) / max(1, self.epochs - self.constant_epochs)
        return self.learning_rate * 0.5 * (1 + math.cos(math.pi * max(0.0, progress)))


def _number(value: object) -> bool:
    return isinstance(value, int | float)


@dataclass(frozen=True)
class Sitting:
    """The circumstances of one sitting of a training; they do not change what comes out.

    Attributes:
        device: "auto", "cpu", "cuda" or another name PyTorch knows.
        precision: "float32", "bfloat16" or "float16" (autocast), or "auto", see
            :func:`mixem.devices.resolve_precision`.
        compile: Let ``torch.compile`` make the backbone faster, where it can.
        max_minutes: Stop cleanly after this time; call again to go on.
        max_epochs: Stop cleanly when so many epochs are done, whatever the length of the training.
        checkpoint_seconds: Least time between two checkpoints; 0 is one after every epoch and
            every 50 steps.
        progress: Show a progress bar.
    """

    device: str = "auto"
    precision: str = "auto"
    compile: bool = False
    max_minutes: float | None = None
    max_epochs: int | None = None
    checkpoint_seconds: float = 30
    progress: bool = True

    def __post_init__(self) -> None:
        for name in ("max_minutes", "checkpoint_seconds"):  # nothing is ever later than NaN
            if (value := getattr(self, name)) is not None and math.isnan(value):
                raise InputError(f"{name} is {value}; give a number")
