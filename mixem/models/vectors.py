"""The trunk of networks that see features instead of pictures."""

import torch
import torch.nn.functional as F
from torch import nn

__all__ = ["Prepared"]

COMPONENTS = 256  # principal components that are kept


class Prepared(nn.Module):
    """Features as heads see them: normalised, centred, normalised again, principal components.

    The mean and the components are those of the images it is fitted on. They are parameters that
    are not trained. Before :meth:`fit`, vectors are normalised and cut off.

    Args:
        in_features: Length D of a vector.

    Attributes:
        out_features: Of a prepared one, at most 256.
        takes_vectors: True: it is not given images.
    """

    takes_vectors = True
    mean: nn.Parameter
    components: nn.Parameter

    def __init__(self, in_features: int):
        super().__init__()
        self.out_features = min(COMPONENTS, in_features)
        self.mean = nn.Parameter(torch.zeros(in_features), requires_grad=False)
        self.components = nn.Parameter(
            torch.eye(self.out_features, in_features), requires_grad=False
        )

    @torch.no_grad()
    def fit(self, vectors: torch.Tensor) -> None:
        """Take mean and components from vectors ``(N, D)`` of any floating-point type."""
        blocks = vectors.split(8192)
        device, d = self.mean.device, vectors.shape[1]
        total = torch.zeros(d, dtype=torch.float64, device=device)
        for block in blocks:
            total += F.normalize(block.to(device).float()).double().sum(0)
        self.mean.copy_(total / len(vectors))
        second = torch.zeros(d, d, dtype=torch.float64, device=device)
        total.zero_()
        for block in blocks:
            centred = self._centred(block.to(device))
            second += (centred.T @ centred).double()
            total += centred.double().sum(0)
        mean = total / len(vectors)
        values = torch.linalg.eigh(second / len(vectors) - torch.outer(mean, mean))
        found = values.eigenvectors.flip(1).T[: self.out_features]
        # Of the two directions of each the one whose largest number is positive.
        largest = found.abs().argmax(1, keepdim=True)
        self.components.copy_(found * found.gather(1, largest).sign())

    def forward(self, vectors: torch.Tensor) -> torch.Tensor:
        """``(N, D)`` to ``(N, out_features)``."""
        return self._centred(vectors) @ self.components.T

    def _centred(self, vectors: torch.Tensor) -> torch.Tensor:
        return F.normalize(F.normalize(vectors.float()) - self.mean)
