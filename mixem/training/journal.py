"""What a training leaves in its folder, and how it goes on from it."""

import contextlib
import dataclasses
import errno
import json
import time
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch

from mixem.checkpoint import (
    UNFINISHED,
    load_checkpoint,
    save_checkpoint,
    save_weights,
    write_atomically,
)
from mixem.devices import DEVICE_ERRORS
from mixem.distributed import leads
from mixem.errors import InputError, memory_is_full
from mixem.methods import Method
from mixem.records import Epoch
from mixem.schema import from_json, to_json
from mixem.training.config import TrainConfig
from mixem.training.meter import Meter

__all__ = ["Journal", "write_log"]


class Journal:
    """Keeps what a training has done, in memory and, if it has one, in its folder.

    Args:
        out: Folder for ``checkpoint.pt``, ``log.jsonl`` and ``epoch-N.safetensors``, or None.

    Attributes:
        history: One entry an epoch.
        state: The checkpoint that was found, or None.
    """

    def __init__(self, out: Path | None):
        self.out = out
        self.history: list[Epoch] = []
        self.earlier = 0.0  # seconds of training in earlier sittings
        self.began = self.saved = time.monotonic()
        file = out / "checkpoint.pt" if out else None
        self.state = load_checkpoint(file) if file and file.exists() else None

    @property
    def seconds(self) -> float:
        """Of training so far, over all sittings."""
        return self.earlier + time.monotonic() - self.began

    def begin(
        self,
        identity: dict[str, Any],
        method: Method,
        optimiser: torch.optim.Optimizer,
        config: TrainConfig,
        meter: Meter,
        scaler: torch.amp.GradScaler,
    ) -> int:
        """Go on from the checkpoint if there is one; the number of steps that are done.

        Args:
            identity: What makes this training this one.
            method: Its weights are put back as they were.
            optimiser: Likewise.
            config: Names the snapshots.
            meter: Likewise.
            scaler: Likewise.

        Raises:
            InputError: If the checkpoint is of another training.
        """
        self.identity, self.method, self.optimiser = identity, method, optimiser
        self.config, self.scaler = config, scaler
        step = self._resume(meter) if self.state else 0
        self.state = None
        self.began = self.saved = time.monotonic()
        if self.out and leads():
            write_log(self.out, self.history)
            for leftover in self.out.glob(f".*{UNFINISHED}"):  # of a process killed while it wrote
                with contextlib.suppress(FileNotFoundError):  # not of one that writes just now
                    if time.time() - leftover.stat().st_mtime > 3600:
                        leftover.unlink()
            if not step:
                self._snapshot(0)
        return step

    def end_epoch(self, row: Epoch) -> None:
        """Log an epoch, and keep the weights if they are asked for."""
        self.history.append(dataclasses.replace(row, seconds=round(self.seconds, 3)))
        if self.out and leads():
            _append_log(self.out, self.history[-1])
            self._snapshot(row.epoch)

    def save(self, step: int, meter: Meter) -> None:
        """Write a checkpoint; the meter must have been read."""
        if not (self.out and leads()):
            return
        state = {
            "identity": self.identity,
            "method": self.method.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "scaler": self.scaler.state_dict(),
            "meter": meter.sums,
            "step": step,
            "seconds": self.seconds,
            "history": _lines(self.history),
            "threads": torch.get_num_threads(),
        }
        save_checkpoint(self.out / "checkpoint.pt", state)
        self.saved = time.monotonic()

    def _snapshot(self, epoch: int) -> None:
        if self.out and epoch in self.config.snapshots:
            save_weights(self.out / f"epoch-{epoch}.safetensors", self.method)

    def _resume(self, meter: Meter) -> int:
        """Put everything back as it was."""
        assert self.out
        assert self.state
        state, file = self.state, self.out / "checkpoint.pt"
        device = self.method.device
        try:
            _require_same(file, state["identity"], self.identity)
            self.method.load_state_dict(state["method"])
            self.optimiser.load_state_dict(state["optimiser"])
            if self.scaler.is_enabled():
                self.scaler.load_state_dict(state["scaler"])
            sums = {name: value.to(device) for name, value in state["meter"].items()}
            # They are those of all processes, and will be added up again.
            meter.state = sums if leads() else {n: torch.zeros_like(v) for n, v in sums.items()}
            rows = map(json.loads, state["history"].splitlines())
            self.history = [from_json(Epoch, row) for row in rows]
            self.earlier = state["seconds"]
            threads, step = state["threads"], state["step"]
        except DEVICE_ERRORS:
            raise
        except (KeyError, TypeError, RuntimeError) as error:
            if memory_is_full(error):
                raise
            raise InputError(
                f"{file} is of another network or version of mixem; "
                "choose another --out or delete the folder"
            ) from error
        if device.type == "cpu" and threads != torch.get_num_threads() and leads():
            warnings.warn(
                f"the run began with {threads} threads and goes on with "
                f"{torch.get_num_threads()}; the result will differ in the last digits",
                stacklevel=4,
            )
        return step


def _require_same(path: Path, found: dict[str, Any], wanted: dict[str, Any]) -> None:
    for key, value in wanted.items():
        if found[key] != value:
            raise InputError(
                f"{path} belongs to another training: {key} there is {found[key]}, here {value}; "
                + ("leave --precision out, or " if key == "precision" else "")
                + "choose another --out or delete the folder"
            )


def _lines(history: Iterable[Epoch]) -> str:
    return "".join(json.dumps(to_json(row)) + "\n" for row in history)


def write_log(out: Path, history: list[Epoch]) -> None:
    """Start ``log.jsonl`` with the epochs that the checkpoint holds."""
    text = _lines(history)
    write_atomically(out / "log.jsonl", lambda file: file.write_text(text, encoding="utf-8"))


def _append_log(out: Path, row: Epoch) -> None:
    try:
        with (out / "log.jsonl").open("a", encoding="utf-8") as file:
            file.write(_lines([row]))
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
        advice = "free some space" if full else "mend that and give the same command to go on"
        raise InputError(
            f"cannot write {out / 'log.jsonl'}: {error.strerror or error}; {advice}"
        ) from error
