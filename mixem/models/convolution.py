"""A convolution that is quick where its map is no larger than its kernel."""

import torch
import torch.nn.functional as F
from torch import nn

__all__ = ["Convolution"]


class Convolution(nn.Conv2d):
    """PyTorch's, computed as a dense layer where that is much faster.

    Where the map is no larger than the kernel, nearly every place of the input reaches every place
    of the output, and half of the kernel lies over zeros. As one product with a matrix, forward
    and backward of the last layer of :class:`mixem.models.ClusterNet6c` take a seventeenth of the
    time on a CPU, and a whole step of it half. It is the same sum in another order.

    That is done on a CPU, where a gradient is asked for, and where kernels are large enough to be
    worth it; else it is PyTorch's own.
    """

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """``(N, C, H, W)`` to ``(N, C', H', W')``."""
        dense = (
            input.device.type == "cpu"
            and torch.is_grad_enabled()
            and self.weight.numel() >= 1 << 18
            and input.shape[-2] <= self.kernel_size[0]
            and input.shape[-1] <= self.kernel_size[1]
            and (self.stride, self.dilation, self.groups) == ((1, 1), (1, 1), 1)
            and not isinstance(self.padding, str)
        )
        return self.as_dense(input) if dense else super().forward(input)

    def as_dense(self, input: torch.Tensor) -> torch.Tensor:
        """The same by one product, for stride 1."""
        inside, kernel, padding = input.shape[-2:], self.kernel_size, self.padding
        reach, outside = _reach(tuple(inside), kernel, padding)  # type: ignore[arg-type]
        weight = self.weight
        if torch.is_autocast_enabled("cpu"):  # copying half as many bytes
            weight = weight.to(torch.get_autocast_dtype("cpu"))
        taps = weight.flatten(2).movedim(2, 0)  # (taps, C', C)
        taps = torch.cat([taps, taps.new_zeros(1, *taps.shape[1:])])
        matrix = taps[reach].transpose(1, 2).flatten(2).flatten(0, 1)  # (places C', places C)
        output = F.linear(input.movedim(1, -1).flatten(1), matrix).unflatten(1, (*outside, -1))
        output = output if self.bias is None else output + self.bias
        return output.movedim(-1, 1)


def _reach(
    inside: tuple[int, int], kernel: tuple[int, int], padding: tuple[int, int]
) -> tuple[torch.Tensor, tuple[int, int]]:
    """Which tap joins each place of the output to each of the input, ``(places, places)``.

    Where none does it is the number after the last tap. Also the size of the output.
    """
    offsets = []
    for side, taps, pad in zip(inside, kernel, padding, strict=True):
        to = torch.arange(side + 2 * pad - taps + 1)
        offsets.append(torch.arange(side) + pad - to[:, None])
    outside = (len(offsets[0]), len(offsets[1]))
    down, right = offsets[0][:, None, :, None], offsets[1][None, :, None, :]
    there = (down >= 0) & (down < kernel[0]) & (right >= 0) & (right < kernel[1])
    tap = torch.where(there, down * kernel[1] + right, kernel[0] * kernel[1])
    return tap.flatten(2).flatten(0, 1), outside
