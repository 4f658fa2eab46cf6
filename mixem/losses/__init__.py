"""Losses: one equation, one pure function, one file. Tensors in, scalar out.

Every loss is computed in float32 or better whatever the autocast setting, and stays finite for
finite inputs, up to about 1e30 divided by the temperature where there is one. NaN makes it NaN.

Shapes, types and numbers that do not fit are an :class:`mixem.errors.InputError`. On a CPU so are
logits where probabilities are meant; at those of pixels, and on a GPU, nobody looks, for that would
take time.

While several processes train together (:mod:`mixem.distributed`), each gives its own images, and
batch means, joint distributions, negatives and codes are those of all.
"""

from mixem.losses.associative_embedding import associative_embedding
from mixem.losses.component_diversity import component_diversity
from mixem.losses.iic import iic, joint_distribution
from mixem.losses.iic_segmentation import iic_segmentation
from mixem.losses.infomax import infomax, logit_penalty
from mixem.losses.instance_confidence import instance_confidence, instance_entropy
from mixem.losses.neighbour_consistency import neighbour_consistency
from mixem.losses.nt_xent import nt_xent
from mixem.losses.self_label import self_label
from mixem.losses.sinkhorn import sinkhorn
from mixem.losses.swapped_prediction import swapped_prediction
from mixem.losses.temi import temi

__all__ = [
    "associative_embedding",
    "component_diversity",
    "iic",
    "iic_segmentation",
    "infomax",
    "instance_confidence",
    "instance_entropy",
    "joint_distribution",
    "logit_penalty",
    "neighbour_consistency",
    "nt_xent",
    "self_label",
    "sinkhorn",
    "swapped_prediction",
    "temi",
]
