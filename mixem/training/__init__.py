"""Training: what it consists of, its one loop, and what it leaves behind."""

from mixem.training.config import Sitting, TrainConfig
from mixem.training.loop import Training, train

__all__ = ["Sitting", "TrainConfig", "Training", "train"]
