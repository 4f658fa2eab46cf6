"""Heads: features in, embeddings or cluster probabilities out."""

import torch
import torch.nn.functional as F
from torch import nn

from mixem.errors import InputError


class ProjectionHead(nn.Sequential):
    """Linear - ReLU - Linear, the head of SimCLR.

    MIX'EM's official code uses it with a hidden layer as wide as the features and no batch norm
    (``resnet.py``), for SimCLR's head, each mixture head and the gate.

    Args:
        in_features: Length of a feature vector.
        out_features: Length of an embedding.
    """

    def __init__(self, in_features: int, out_features: int):
        super().__init__(
            nn.Linear(in_features, in_features),
            nn.ReLU(inplace=True),
            nn.Linear(in_features, out_features),
        )


class MixtureHead(nn.Module):
    """M projection heads and a gate: a mixture of embeddings.

    All heads and the gate read the same features. The heads' first layers are one linear layer
    and their second layers one batched product, which is the same sum in fewer launches.

    Args:
        in_features: Length D of a feature vector.
        components: Number M of mixture components; 10 in MIX'EM's ``config.yaml``.
        out_features: Length d of an embedding; 32 in MIX'EM's ``config.yaml``.
    """

    def __init__(self, in_features: int, components: int = 10, out_features: int = 32):
        super().__init__()
        self.components = components
        self.gate = ProjectionHead(in_features, components)
        self.hidden = nn.Linear(in_features, components * in_features)
        bound = in_features**-0.5  # PyTorch's default for each head's own nn.Linear
        self.weight = nn.Parameter(
            torch.empty(components, in_features, out_features).uniform_(-bound, bound)
        )
        self.bias = nn.Parameter(torch.empty(components, 1, out_features).uniform_(-bound, bound))

    def forward(self, features: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """``(B, D)`` to embeddings e ``(M, B, d)`` of unit length and gate logits ``(B, M)``.

        The mixing coefficients are softmax(l), the mixed embedding of image b is
        z_b = sum_m p_bm e_mb (:func:`mix`), whose length is at most 1.
        """
        hidden = F.relu(self.hidden(features)).unflatten(1, (self.components, -1))  # (B, M, D)
        embeddings = torch.baddbmm(self.bias, hidden.transpose(0, 1), self.weight)  # (M, B, d)
        # bfloat16 has too few digits for lengths; float64 stays.
        embeddings = embeddings.to(torch.promote_types(embeddings.dtype, torch.float32))
        return F.normalize(embeddings, dim=2, eps=1e-12), self.gate(features)


class SubHeads(nn.Module):
    """h linear classifiers with a softmax each, side by side: a head of IIC.

    They see the same features and differ only in their random start. One linear layer computes
    them all.

    Args:
        in_features: Length D of a feature vector.
        clusters: Number k of clusters.
        heads: Number h of sub-heads.
        std: Standard deviation of the weights at the start, the bias being 0; 0.01 in the official
            code (``residual.py``, ``vgg.py``). None for PyTorch's default of a linear layer, with
            which the clusters differ more at the start.
    """

    def __init__(
        self, in_features: int, clusters: int, heads: int = 5, *, std: float | None = 0.01
    ):
        super().__init__()
        if heads < 1 or clusters < 2:
            raise InputError(
                f"{heads} sub-heads of {clusters} clusters; give at least 1 sub-head and 2 clusters"
            )
        self.heads = heads
        self.linear = nn.Linear(in_features, heads * clusters)
        if std is not None:
            nn.init.normal_(self.linear.weight, std=std)
            nn.init.zeros_(self.linear.bias)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """``(N, D)`` to float32 cluster probabilities ``(h, N, k)``; rows sum to one."""
        logits = self.linear(features).unflatten(1, (self.heads, -1)).transpose(0, 1)
        return logits.softmax(2, dtype=torch.promote_types(logits.dtype, torch.float32))


class ClusterHead(nn.Sequential):
    """Two hidden layers with batch norm, and a linear one: IMC-SwAV's classifier.

    Args:
        in_features: Length of a feature vector.
        clusters: Number k of clusters.
        hidden: Width of the hidden layers; 1024 in the official ``graphs.py``.
    """

    def __init__(self, in_features: int, clusters: int, *, hidden: int = 1024):
        if clusters < 2 or hidden < 1:
            raise InputError(
                f"{clusters} clusters, {hidden} hidden units; give at least 2 and at least 1"
            )
        super().__init__(
            nn.Linear(in_features, hidden),
            nn.BatchNorm1d(hidden),
            nn.ReLU(inplace=True),
            nn.Linear(hidden, hidden),
            nn.BatchNorm1d(hidden),
            nn.ReLU(inplace=True),
            nn.Linear(hidden, clusters),
        )


def mix(embeddings: torch.Tensor, p: torch.Tensor) -> torch.Tensor:
    """Mixed embeddings z = sum_m p_m e_m, ``(M, B, d)`` and ``(B, M)`` to ``(B, d)``.

    The sum is not normalised again: an image with undecided coefficients has a short z.
    """
    with torch.autocast(embeddings.device.type, enabled=False):
        return torch.einsum("mbd,bm->bd", embeddings, p)
