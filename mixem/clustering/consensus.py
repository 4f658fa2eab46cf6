"""What several soft clusterings of the same images agree on."""

import torch
from scipy.optimize import linear_sum_assignment

from mixem.errors import InputError

__all__ = ["consensus", "matching"]


def consensus(probabilities: torch.Tensor, *, like: int = 0) -> torch.Tensor:
    """The mean of several clusterings, the clusters of each numbered like those of one of them.

    Clusters are paired one to one so that the probabilities that two clusterings give to the same
    cluster overlap most (the Hungarian method). No label is needed.

        >>> first = torch.tensor([[0.9, 0.1], [0.2, 0.8]])
        >>> found = consensus(torch.stack([first, first.flip(1)]))
        >>> bool(torch.equal(found, first))
        True

    Args:
        probabilities: ``(h, N, k)``, rows sum to one.
        like: Which of the h gives the numbers.

    Returns:
        ``(N, k)``, rows sum to one.

    Raises:
        InputError: If the shape is another one, or there is no such clustering.
    """
    columns = matching(probabilities, like=like)
    parts = [p[:, order] for p, order in zip(probabilities, columns, strict=True)]
    return torch.stack(parts).mean(0)


def matching(probabilities: torch.Tensor, *, like: int = 0) -> torch.Tensor:
    """Which cluster of each clustering goes with which of one of them; see :func:`consensus`.

    Args:
        probabilities: ``(h, N, k)``.
        like: Which of the h gives the numbers.

    Returns:
        int64 ``(h, k)``: the clusters of each clustering in the order of that one's.

    Raises:
        InputError: As :func:`consensus`.
    """
    if probabilities.ndim != 3 or 0 in probabilities.shape or not 0 <= like < len(probabilities):
        raise InputError(
            f"probabilities of shape {tuple(probabilities.shape)}, like {like}; give "
            "(clusterings, images, clusters) and the number of one of them"
        )
    reference = probabilities[like]
    rows = []
    for other in probabilities:
        overlap = (reference.T @ other).double().cpu().numpy()
        rows.append(torch.from_numpy(linear_sum_assignment(overlap, maximize=True)[1]))
    return torch.stack(rows).to(probabilities.device)
