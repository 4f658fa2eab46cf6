"""Methods: one paper, one file, from views to loss terms to assignments."""

from mixem.methods.base import Method, Step, extract
from mixem.methods.finetune import Finetune
from mixem.methods.iic import IIC
from mixem.methods.imc_swav import IMCSwAV
from mixem.methods.mixem import MixEM
from mixem.methods.simclr import SimCLR

__all__ = ["IIC", "Finetune", "IMCSwAV", "Method", "MixEM", "SimCLR", "Step", "extract"]
