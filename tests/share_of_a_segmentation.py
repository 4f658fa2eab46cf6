"""IIC's segmentation loss on a share of a batch; for losses/test_iic_segmentation.py.

python -m torch.distributed.run --nproc-per-node 2 tests/share_of_a_segmentation.py FILE
"""

import sys

import torch

from mixem.distributed import disconnect, gather, leads, rank, size, together, total
from mixem.losses import iic_segmentation

IMAGES = 6
CPU = torch.device("cpu")


def found():
    """Loss of the batch and its gradient in the maps of all images, by case."""
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(IMAGES, 2, 3, 9, 8, generator=generator, dtype=torch.float64)
    mask = torch.rand(IMAGES, 1, 9, 8, generator=generator) < 0.7
    results = {}
    with together(CPU):
        # Uneven shares would do as well: the counts are summed over all images.
        mine = slice(rank() * IMAGES // size(), (rank() + 1) * IMAGES // size())
        for collapsed in (False, True):
            for masked in (False, True):
                x = logits[mine].clone().requires_grad_()
                loss = iic_segmentation(
                    *x.softmax(2).transpose(0, 1),
                    max_displacement=2,
                    mask=mask[mine] if masked else None,
                    collapsed=collapsed,
                )
                (gradient,) = torch.autograd.grad(loss, x)
                # The network learns from the mean of the processes' losses.
                value = total(loss.detach()) / size()
                results[f"{collapsed}, {masked}"] = value, gather(gradient) / size()
    return results


def main():
    """Write what is found, from the first process."""
    results = found()
    if leads():
        torch.save(results, sys.argv[1])
    disconnect()


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
