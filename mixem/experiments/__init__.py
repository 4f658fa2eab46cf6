"""The experiments by name: one frozen record of settings each, every value with its source."""

import difflib

from mixem.errors import InputError
from mixem.experiments import (
    baselines,
    iic,
    iic_segmentation,
    imc_swav,
    mixem,
    photos,
    pretrained,
    scan,
)
from mixem.experiments.settings import Experiment

__all__ = ["EXPERIMENTS", "Experiment", "get"]

EXPERIMENTS: dict[str, Experiment] = {
    experiment.name: experiment
    for experiment in (
        *mixem.EXPERIMENTS,
        *photos.EXPERIMENTS,
        *iic.EXPERIMENTS,
        *iic_segmentation.EXPERIMENTS,
        *imc_swav.EXPERIMENTS,
        *scan.EXPERIMENTS,
        *pretrained.EXPERIMENTS,
        *baselines.EXPERIMENTS,
    )
}


def get(name: str) -> Experiment:
    """The experiment called ``name``.

    Raises:
        InputError: If there is none; the message names the closest ones.
    """
    if name not in EXPERIMENTS:
        near = difflib.get_close_matches(name, EXPERIMENTS, n=1)
        hint = f"did you mean {near[0]!r}?" if near else "see python -m mixem list"
        raise InputError(f"there is no experiment {name!r}; {hint}")
    return EXPERIMENTS[name]
