"""NT-Xent: by hand, against a slow reference, corner cases, memory."""

import math

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from mixem.errors import InputError
from mixem.losses import nt_xent


def slow(z1, z2, temperature):
    """One anchor at a time, in NumPy, as the equation stands in the paper."""
    z = np.concatenate([z1, z2])
    count = len(z)
    total = 0.0
    for a in range(count):
        cosines = [z[a] @ z[b] / np.linalg.norm(z[a]) / np.linalg.norm(z[b]) for b in range(count)]
        partner = (a + count // 2) % count
        others = sum(math.exp(cosines[b] / temperature) for b in range(count) if b != a)
        total += -math.log(math.exp(cosines[partner] / temperature) / others)
    return total / count


def two_views(batch, size, seed=0, **kwargs):
    generator = torch.Generator().manual_seed(seed)
    kwargs = {"dtype": torch.float64} | kwargs
    return torch.randn(2, batch, size, generator=generator, **kwargs)


def test_two_images_by_hand():
    # Each view sees its partner at cosine 1 and the two views of the other image at cosine 0.
    z = torch.tensor([[3.0, 0.0], [0.0, 0.5]])
    assert nt_xent(z, z, temperature=0.5).item() == pytest.approx(math.log(math.e**2 + 2) - 2)
    # Partners swapped: the partner is at cosine 0, one of the others at 1.
    assert nt_xent(z, z.flip(0), temperature=0.5).item() == pytest.approx(math.log(math.e**2 + 2))


@pytest.mark.parametrize("batch", [1, 2, 3, 7, 16])
@pytest.mark.parametrize("size", [1, 2, 5])
@pytest.mark.parametrize("temperature", [0.1, 0.5, 1.0, 3.0])
def test_equals_the_slow_reference(batch, size, temperature):
    z1, z2 = two_views(batch, size)
    expected = slow(z1.numpy(), z2.numpy(), temperature)
    assert nt_xent(z1, z2, temperature=temperature).item() == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("batch", [2, 4, 512])
def test_equal_rows_give_the_logarithm_of_the_number_of_others(batch):
    z = torch.ones(batch, 3, dtype=torch.float64)
    assert nt_xent(z, 5 * z).item() == pytest.approx(math.log(2 * batch - 1), rel=1e-12)


def test_the_range_is_that_of_the_docstring():
    for seed in range(20):
        z1, z2 = two_views(5, 2, seed)
        for partner in (z2, -z1, z1):
            loss = nt_xent(z1, partner, temperature=0.2).item()
            assert 0 <= loss <= math.log(9) + 2 / 0.2
    # Close to the upper bound: the partner is opposite, the other images are equal.
    z = torch.ones(4, 1)
    loss = nt_xent(z, -z, temperature=0.2).item()
    assert loss == pytest.approx(10 + math.log(3 + 4 * math.exp(-10)), rel=1e-6)


def test_one_image_has_nothing_to_be_told_apart_from():
    z1, z2 = two_views(1, 4).requires_grad_()
    loss = nt_xent(z1, z2)
    assert loss.item() == 0
    (gradient,) = torch.autograd.grad(loss, z1)
    assert torch.equal(gradient, torch.zeros(1, 4, dtype=torch.float64))


def test_order_of_images_order_of_views_length_and_rotation_do_not_matter():
    z1, z2 = two_views(9, 4)
    loss = nt_xent(z1, z2).item()
    order = torch.randperm(9, generator=torch.Generator().manual_seed(1))
    rotation = torch.linalg.qr(two_views(4, 4)[0]).Q
    lengths = torch.rand(9, 1, generator=torch.Generator().manual_seed(2), dtype=torch.float64) + 1
    for other in (
        nt_xent(z1[order], z2[order]),
        nt_xent(z2, z1),
        nt_xent(z1 * lengths, z2 * 1e-3),
        nt_xent(z1 @ rotation, z2 @ rotation),
    ):
        assert other.item() == pytest.approx(loss, rel=1e-12)
    assert nt_xent(z1, z2[order]).item() != pytest.approx(loss, rel=1e-3)


def test_gradcheck():
    z1, z2 = two_views(4, 3)
    assert torch.autograd.gradcheck(
        lambda a, b: nt_xent(a, b, temperature=0.3),
        (z1.clone().requires_grad_(), z2.clone().requires_grad_()),
    )


def test_a_zero_row_has_cosine_0_and_finite_gradients():
    z1, z2 = two_views(3, 4, dtype=torch.float32)
    z1[1] = 0
    z1.requires_grad_()
    loss = nt_xent(z1, z2)
    # A row orthogonal to all the others gives the same loss.
    wide = torch.zeros(2, 3, 5)
    wide[0, :, :4], wide[1, :, :4], wide[0, 1, 4] = z1.detach(), z2, 1
    assert loss.item() == pytest.approx(nt_xent(*wide).item(), rel=1e-6)
    (gradient,) = torch.autograd.grad(loss, z1)
    assert 1 < gradient[1].norm() < 1e8  # steep, as the official 1e-8 makes it, and finite
    everything = torch.zeros(3, 4, requires_grad=True)
    loss = nt_xent(everything, everything)
    assert loss.item() == pytest.approx(math.log(5), rel=1e-6)
    assert torch.autograd.grad(loss, everything)[0].isfinite().all()


def test_the_second_derivative_is_that_of_the_numbers_and_finite_at_0():
    z1, z2 = two_views(4, 3).requires_grad_()
    assert torch.autograd.gradgradcheck(nt_xent, (z1, z2))
    z = torch.zeros(4, 3, requires_grad=True)
    (first,) = torch.autograd.grad(nt_xent(z, z), z, create_graph=True)
    assert torch.autograd.grad(first.pow(2).sum(), z)[0].isfinite().all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("scale", [1e17, 1e20, 1e30])
def test_very_long_rows_have_their_cosine(scale, dtype):
    z1, z2 = two_views(8, 4, dtype=torch.float32).to(dtype)
    long = (scale * z1.float()).to(dtype).requires_grad_()
    loss = nt_xent(long, z2)
    rounding = 1e-6 if dtype == torch.float32 else 1e-2
    assert loss.item() == pytest.approx(nt_xent(z1, z2).item(), rel=rounding)
    assert torch.autograd.grad(loss, long)[0].isfinite().all()


def test_float16_has_no_room_for_the_gradient_of_a_zero_row_as_bfloat16_has():
    for dtype, finite in ((torch.float16, False), (torch.bfloat16, True)):
        z = torch.zeros(4, 8, dtype=dtype, requires_grad=True)
        loss = nt_xent(z, two_views(4, 8, dtype=torch.float32)[0].to(dtype))
        assert loss.isfinite()
        assert torch.autograd.grad(loss, z)[0].isfinite().all() == finite


def test_small_temperatures_do_not_overflow():
    z1, z2 = two_views(8, 4, dtype=torch.float32).requires_grad_()
    for a, b in ((z1, z2), (z1, -z1)):
        loss = nt_xent(a, b, temperature=1e-3)
        assert loss.isfinite()
        assert torch.autograd.grad(loss, z1, retain_graph=True)[0].isfinite().all()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_computed_in_float32(dtype):
    z1, z2 = two_views(8, 16, dtype=torch.float32).to(dtype)
    loss = nt_xent(z1, z2, temperature=0.1)
    assert loss.dtype == torch.float32
    assert loss.item() == nt_xent(z1.float(), z2.float(), temperature=0.1).item()


def test_autocast_changes_nothing():
    z1, z2 = two_views(8, 16, dtype=torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        loss = nt_xent(z1, z2)
    assert loss.dtype == torch.float32
    assert loss.item() == nt_xent(z1, z2).item()


def test_memory_does_not_grow_with_batch_squared_times_size():
    class Largest(TorchDispatchMode):
        elements = 0

        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            result = function(*args, **(kwargs or {}))
            for leaf in tree_leaves(result):
                if isinstance(leaf, torch.Tensor):
                    self.elements = max(self.elements, leaf.untyped_storage().nbytes() // 8)
            return result

    batch, size = 16, 50
    z1, z2 = two_views(batch, size).requires_grad_()
    with Largest() as largest:
        nt_xent(z1, z2).backward(inputs=[z1])
    # The similarities (2B, 2B) and the embeddings (2B, d), never (2B, 2B, d).
    assert largest.elements <= 2 * batch * max(2 * batch, size)


def test_float64_stays_and_float32_is_close():
    z1, z2 = two_views(8, 16)
    loss = nt_xent(z1, z2)
    assert loss.dtype == torch.float64
    assert nt_xent(z1.float(), z2.float()).item() == pytest.approx(loss.item(), rel=1e-5)


@pytest.mark.parametrize(
    ("shapes", "temperature", "message"),
    [
        (((3, 4), (2, 4)), 0.5, "equal shapes"),
        (((3, 4), (3, 5)), 0.5, "equal shapes"),
        (((3,), (3,)), 0.5, "one row per image"),
        (((0, 4), (0, 4)), 0.5, "non-empty"),
        (((3, 0), (3, 0)), 0.5, "non-empty"),
        (((3, 4), (3, 4)), 0.0, "positive"),
        (((3, 4), (3, 4)), -1.0, "positive"),
        (((3, 4), (3, 4)), math.nan, "positive"),
    ],
)
def test_errors_say_what_is_wrong(shapes, temperature, message):
    with pytest.raises(InputError, match=message) as caught:
        nt_xent(torch.ones(shapes[0]), torch.ones(shapes[1]), temperature=temperature)
    assert "\n" not in str(caught.value)


def test_integers_are_refused():
    with pytest.raises(InputError, match="floating-point"):
        nt_xent(torch.ones(2, 2, dtype=torch.long), torch.ones(2, 2, dtype=torch.long))
