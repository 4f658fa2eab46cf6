"""k-means on the places of maps: pixels, or the features of a network at each place."""

from collections.abc import Iterable

import torch
import torch.nn.functional as F

from mixem.clustering.kmeans import kmeans

__all__ = ["nearest_centre", "place_centres"]


def place_centres(
    maps: Iterable[torch.Tensor], k: int, *, each: int = 100, seed: int = 0
) -> torch.Tensor:
    """Centres of k-means on some places of some maps, drawn at random; needs no masks.

    The yardstick of every report: the maps are the pixels' values, or the features of a network
    that was not trained.

    Args:
        maps: Batches ``(n, D, H, W)``.
        k: Number of clusters.
        each: Places drawn of each image, with repetition.
        seed: Of the draws and of k-means.

    Returns:
        ``(k, D)`` float32.

    Raises:
        InputError: If there are fewer places than clusters.
    """
    generator = torch.Generator().manual_seed(seed)
    drawn = []
    for batch in maps:
        flat = batch.detach().flatten(2)
        chosen = torch.randint(flat.shape[2], (len(flat), 1, each), generator=generator)
        some = flat.gather(2, chosen.to(flat.device).expand(-1, flat.shape[1], -1))
        drawn.append(some.transpose(1, 2).flatten(0, 1).cpu())
    found = kmeans(torch.cat(drawn), k, seed=seed, normalise=False, n_init=5, max_iter=300)
    return torch.from_numpy(found.centres).float()


def nearest_centre(
    maps: torch.Tensor, centres: torch.Tensor, *, size: tuple[int, int] | None = None
) -> torch.Tensor:
    """Number of the nearest of the centres at each place.

    Args:
        maps: ``(n, D, h, w)``.
        centres: ``(k, D)``.
        size: Height and width of what is wanted, if the maps are to be resized first, bilinearly.

    Returns:
        int64 ``(n, H, W)``.
    """
    centres = centres.to(maps.device)
    with torch.autocast(maps.device.type, enabled=False):
        products = torch.einsum("ndhw,kd->nkhw", maps.float(), centres)
        closeness = products - centres.square().sum(1)[:, None, None] / 2
        if size not in (None, tuple(maps.shape[2:])):
            # Both are linear in the maps, so that the order does not matter, and k is smaller.
            closeness = F.interpolate(closeness, size, mode="bilinear", align_corners=False)
        return closeness.argmax(1)
