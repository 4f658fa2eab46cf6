"""Convolutions that are quick where the map is hardly larger than the kernel."""

import torch
import torch.nn.functional as F
from torch import nn

__all__ = ["Convolution", "with_quick_convolutions"]


class Convolution(nn.Conv2d):
    """PyTorch's, computed as a dense layer where that is much faster.

    On a map that is hardly larger than the kernel nearly every place of the input reaches every
    place of the output, and much of the kernel lies over zeros. As one product with a matrix, the
    last layer of :class:`mixem.models.ClusterNet6c`, forward and backward, takes about a tenth of
    the time on a CPU, and a whole step half. It is the same sum in another order.

    That is done on a CPU, where a gradient is asked for, and where the kernels are large enough to
    be worth it; else it is PyTorch's own.
    """

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """``(N, C, H, W)`` to ``(N, C', H', W')``."""
        return self.as_dense(input) if self._pays(input) else super().forward(input)

    def _pays(self, input: torch.Tensor) -> bool:
        """At most twice the multiplications, and few places, for the matrix has all pairs."""
        if (
            input.device.type != "cpu"
            or not torch.is_grad_enabled()
            or self.weight.numel() < 1 << 17
            or (self.dilation, self.groups, self.padding_mode) != ((1, 1), 1, "zeros")
            or isinstance(self.padding, str)
        ):
            return False
        along = zip(input.shape[-2:], self.padding, self.kernel_size, self.stride, strict=True)
        rows, columns = ((side + 2 * p - taps) // stride + 1 for side, p, taps, stride in along)
        taps = self.kernel_size[0] * self.kernel_size[1]
        return input.shape[-2] * input.shape[-1] <= 2 * taps and rows * columns <= 9

    def _reach(self, input: torch.Tensor, axis: int) -> torch.Tensor:
        """Tap that joins each place of the output to each of the input, along an axis."""
        side, taps = input.shape[2 + axis], self.kernel_size[axis]
        stride, padding = self.stride[axis], int(self.padding[axis])
        corners = torch.arange(-padding, side + padding - taps + 1, stride)
        return torch.arange(side) - corners[:, None]

    def as_dense(self, input: torch.Tensor) -> torch.Tensor:
        """The same by one product."""
        down, right = self._reach(input, 0), self._reach(input, 1)
        outside = (len(down), len(right))
        down, right = down[:, None, :, None], right[None, :, None, :]
        height, width = self.kernel_size
        there = (down >= 0) & (down < height) & (right >= 0) & (right < width)
        tap = torch.where(there, down * width + right, height * width)  # the last one is zero
        reach = tap.flatten(2).flatten(0, 1)  # (places of the output, places of the input)

        weight = self.weight
        if torch.is_autocast_enabled("cpu"):  # half as many bytes to copy
            weight = weight.to(torch.get_autocast_dtype("cpu"))
        taps = weight.flatten(2).movedim(2, 0)  # (taps, C', C)
        taps = torch.cat([taps, taps.new_zeros(1, *taps.shape[1:])])
        # Not taps[reach]: several threads would add up its gradient in an order of their own.
        pairs = taps.index_select(0, reach.flatten()).unflatten(0, reach.shape)
        matrix = pairs.transpose(1, 2).flatten(2).flatten(0, 1)  # (places C', places C)
        output = F.linear(input.movedim(1, -1).flatten(1), matrix).unflatten(1, (*outside, -1))
        output = output if self.bias is None else output + self.bias
        return output.movedim(-1, 1)


def with_quick_convolutions(network: nn.Module) -> nn.Module:
    """The network, whose convolutions are now :class:`Convolution`; weights stay as they are."""
    for module in network.modules():
        if type(module) is nn.Conv2d:
            module.__class__ = Convolution
    return network
