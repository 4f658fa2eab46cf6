"""IIC's networks: sizes, counts, starts, batch statistics, Sobel filters, sub-heads."""

import itertools

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import nn

from mixem.errors import InputError
from mixem.losses import iic
from mixem.models import ClusterNet5g, ClusterNet6c, Sobel, SubHeads, make_backbone

# Sizes and numbers of parameters need no values.
META = torch.device("meta")


def parameters(*modules: nn.Module) -> int:
    return sum(p.numel() for module in modules for p in module.parameters())


def count_6c(channels: int, width: int) -> int:
    chain = [channels, width, 2 * width, 4 * width, 8 * width]
    return sum(25 * a * b + 2 * b for a, b in itertools.pairwise(chain))


def count_5g(channels: int, width: int, stages: int = 4) -> int:
    total = 9 * channels * width + 2 * width
    before = width
    for stage, blocks in enumerate((3, 4, 6, 3)[:stages]):
        after = width * 2**stage
        total += 9 * before * after + (2 * blocks - 1) * 9 * after**2 + 2 * blocks * 2 * after
        total += before * after + 2 * after if stage else 0  # the shortcut that halves the size
        before = after
    return total


def shapes(net: nn.Module, kind: type, images: torch.Tensor) -> list[tuple[int, ...]]:
    """Sizes without the batch of what the layers of one kind give, and of the whole."""
    found: list[tuple[int, ...]] = []
    for module in net.modules():
        if isinstance(module, kind):
            module.register_forward_hook(lambda module, given, out: found.append(out.shape[1:]))
    found.append(net(images).shape[1:])
    return [tuple(shape) for shape in found]


def convolutions(net: nn.Module) -> list[nn.Conv2d]:
    return [module for module in net.modules() if isinstance(module, nn.Conv2d)]


@pytest.mark.parametrize(
    ("net", "count", "published"),
    [(ClusterNet5g, count_5g(2, 64), 21.28), (ClusterNet6c, count_6c(1, 64), 4.30)],
)
def test_as_many_parameters_as_the_official_networks(net, count, published):
    with META:
        assert parameters(net()) == count
    assert count == {ClusterNet5g: 21_276_416, ClusterNet6c: 4_304_320}[net]
    assert round(count / 1e6, 2) == published


@pytest.mark.parametrize("channels", [1, 2, 5])
@pytest.mark.parametrize("width", [1, 6, 16])
@pytest.mark.parametrize("running", [True, False])
def test_width_and_channels(channels, width, running):
    with META:
        images = torch.empty(2, channels, 24, 24)
        for net, count, features in (
            (ClusterNet5g, count_5g, 8 * width),
            (ClusterNet6c, count_6c, 72 * width),
        ):
            made = net(channels, width=width, running_statistics=running)
            assert parameters(made) == count(channels, width)
            assert made.out_features == features
            assert made(images).shape == (2, features)


@pytest.mark.parametrize(
    ("size", "stages"), [(32, (17, 9, 5, 3)), (64, (33, 17, 9, 5)), (96, (49, 25, 13, 7))]
)
def test_stages_of_clusternet5g(size, stages):
    from torchvision.models.resnet import BasicBlock

    with META:
        images = torch.empty(2, 2, size, size)
        pooled, _ = shapes(ClusterNet5g(), nn.MaxPool2d, images)
        *blocks, features = shapes(ClusterNet5g(), BasicBlock, images)
    assert pooled == (64, stages[0], stages[0])
    assert blocks == [
        (64 * 2**stage, stages[stage], stages[stage])
        for stage, number in enumerate((3, 4, 6, 3))
        for _ in range(number)
    ]
    assert features == (512,)


@pytest.mark.parametrize(("size", "places", "features"), [(64, 9, 20736), (32, 5, 6400)])
def test_penultimate_features_keep_their_places(size, places, features):
    with META:
        net = ClusterNet5g(penultimate=True, size=size)
        *maps, flat = shapes(net, nn.Conv2d, torch.empty(2, 2, size, size))
        assert parameters(net) == count_5g(2, 64, stages=3)
    assert maps[-1] == (256, places, places)
    assert flat == (features,)
    assert net.out_features == features


@pytest.mark.parametrize("size", [8, 9, 33, 50])
def test_penultimate_features_of_any_size(size):
    with META:
        net = ClusterNet5g(width=2, penultimate=True, size=size)
        assert net(torch.empty(2, 2, size, size)).shape == (2, net.out_features)


@pytest.mark.parametrize(
    ("size", "maps"), [(24, (24, 12, 6, 3)), (16, (16, 8, 4, 2)), (29, (29, 14, 7, 3))]
)
def test_maps_of_clusternet6c(size, maps):
    with META:
        net = ClusterNet6c(size=size)
        *found, features = shapes(net, nn.Conv2d, torch.empty(2, 1, size, size))
    assert found == [(64 * 2**i, side, side) for i, side in enumerate(maps)]
    assert features == (512 * maps[-1] ** 2,) == (net.out_features,)
    if size == 24:
        assert net.out_features == 4608


def written_out(net: nn.Module, images: torch.Tensor) -> torch.Tensor:
    """What either network does in training, block by block, from its weights in order."""
    weights = iter(net.parameters())

    def convolution(x: torch.Tensor, padding: int, stride: int = 1) -> torch.Tensor:
        x = F.conv2d(x, next(weights), stride=stride, padding=padding)
        return F.batch_norm(x, None, None, next(weights), next(weights), training=True)

    if isinstance(net, ClusterNet6c):
        x = F.relu(convolution(images, 2))
        for _ in range(3):
            x = F.relu(convolution(F.max_pool2d(x, 2), 2))
        return x.flatten(1)
    x = F.max_pool2d(F.relu(convolution(images, 1)), 2, padding=1)
    for stage, blocks in enumerate((3, 4, 6, 3)):
        for block in range(blocks):
            stride = 2 if stage > 0 and block == 0 else 1
            y = F.relu(convolution(x, 1, stride))
            y = convolution(y, 1)
            x = F.relu(y + (convolution(x, 0, stride) if stride == 2 else x))
    return x.mean((2, 3))


@pytest.mark.parametrize("make", [ClusterNet5g, ClusterNet6c])
@pytest.mark.parametrize("running", [True, False])
def test_equals_the_layers_written_out(make, running):
    torch.manual_seed(0)
    net = make(2, width=3, running_statistics=running).double()
    with torch.no_grad():
        for p in net.parameters():
            p += 0.1 * torch.randn_like(p)  # batch norm's too
    images = torch.rand(4, 2, 24, 24, dtype=torch.float64)
    assert torch.allclose(net(images), written_out(net, images), atol=1e-12)


@pytest.mark.parametrize("make", [ClusterNet5g, ClusterNet6c])
def test_convolutions_have_no_bias_and_start_by_hes_rule(make):
    torch.manual_seed(0)
    net = make(2, width=16)
    for layer in convolutions(net):
        assert layer.bias is None
        # fan_out for the ResNet, fan_in for the VGG net.
        channels = layer.out_channels if make is ClusterNet5g else layer.in_channels
        expected = (2 / (channels * layer.kernel_size[0] ** 2)) ** 0.5
        weight = layer.weight.detach()
        tolerance = 5 / (2 * weight.numel()) ** 0.5
        assert weight.std().item() == pytest.approx(expected, rel=tolerance)
        assert abs(weight.mean().item()) < 5 * expected / weight.numel() ** 0.5
    norms = [module for module in net.modules() if isinstance(module, nn.BatchNorm2d)]
    assert len(norms) == len(convolutions(net))
    for norm in norms:
        assert (norm.weight == 1).all()
        assert (norm.bias == 0).all()


@pytest.mark.parametrize("make", [ClusterNet5g, ClusterNet6c])
@pytest.mark.parametrize("running", [True, False])
def test_evaluation_without_running_statistics_depends_on_the_batch(make, running):
    torch.manual_seed(0)
    net = make(1, width=4, running_statistics=running)
    images = torch.rand(6, 1, 24, 24) ** torch.tensor([1, 1, 1, 3, 3, 3]).view(-1, 1, 1, 1)
    net.train()(images)
    net.eval()
    with torch.no_grad():
        together, alone = net(images)[:3], net(images[:3])
        training = net.train()(images)[:3]
    assert torch.allclose(together, alone, atol=1e-5) == running
    assert torch.allclose(together, training) == (not running)
    buffers = {name.rpartition(".")[2] for name, _ in net.named_buffers()}
    tracked = {"running_mean", "running_var", "num_batches_tracked"}
    assert buffers == (tracked if running else set())


@pytest.mark.parametrize("make", [ClusterNet5g, ClusterNet6c])
def test_all_parameters_learn(make):
    torch.manual_seed(0)
    net = make(1, width=4)
    head = SubHeads(net.out_features, 3, 2)
    images = torch.rand(2, 8, 1, 24, 24)
    iic(*(head(net(view)) for view in images)).sum().backward()
    for name, p in [*net.named_parameters(), *head.named_parameters()]:
        assert p.grad is not None, name
        assert p.grad.abs().max() > 0, name


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ClusterNet6c(size=7), "7 x 7"),
        (lambda: ClusterNet6c(width=0), "width 0"),
        (lambda: ClusterNet5g(width=0), "width 0"),
        (lambda: ClusterNet5g(penultimate=True), "size None"),
        (lambda: ClusterNet5g(penultimate=True, size=7), "size 7"),
        (lambda: SubHeads(8, 1), "5 sub-heads of 1 clusters"),
        (lambda: SubHeads(8, 3, 0), "0 sub-heads of 3 clusters"),
    ],
)
def test_sizes_that_cannot_be_are_refused(make, message):
    with pytest.raises(InputError, match=f"{message}.*; give") as caught:
        make()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "channels", "size", "kind", "inputs", "features", "running", "sobel"),
    [
        ("clusternet5g", 3, 64, ClusterNet5g, 2, 512, True, False),
        ("clusternet5g-batch", 3, 32, ClusterNet5g, 2, 512, False, False),
        ("clusternet5g-penultimate", 3, 64, ClusterNet5g, 2, 20736, True, False),
        ("clusternet6c", 1, 24, ClusterNet6c, 1, 4608, True, None),
        ("clusternet6c-batch", 1, 24, ClusterNet6c, 1, 4608, False, None),
        ("clusternet6c-sobel", 3, 24, ClusterNet6c, 5, 4608, True, True),
        ("clusternet6c-16", 1, 24, ClusterNet6c, 1, 1152, True, None),
        ("clusternet6c-16-batch", 1, 24, ClusterNet6c, 1, 1152, False, None),
    ],
)
def test_backbones_by_name(name, channels, size, kind, inputs, features, running, sobel):
    with META:
        net = make_backbone(name, in_channels=channels, size=size)
        (trunk,) = (m for m in net.modules() if isinstance(m, ClusterNet5g | ClusterNet6c))
        assert trunk(torch.empty(2, inputs, size, size)).shape == (2, features)
    assert type(trunk) is kind
    assert net.out_features == features
    norms = [m for m in net.modules() if isinstance(m, nn.BatchNorm2d)]
    assert {m.track_running_stats for m in norms} == {running}
    assert [m.keep for m in net.modules() if isinstance(m, Sobel)] == (
        [] if sobel is None else [sobel]
    )


def test_sobel_has_the_official_kernels():
    # A single bright pixel gives back the kernels, turned by 180 degrees.
    image = torch.zeros(1, 1, 5, 5)
    image[0, 0, 2, 2] = 1
    dx, dy = Sobel()(image)[0, :, 1:4, 1:4].flip((1, 2)).tolist()
    assert dx == [[1, 0, -1], [2, 0, -2], [1, 0, -1]]
    assert dy == [[1, 2, 1], [0, 0, 0], [-1, -2, -1]]


@pytest.mark.parametrize("channels", [1, 3])
def test_sobel_of_a_constant_image_is_a_frame(channels):
    dx, dy = Sobel()(torch.full((1, channels, 5, 6), 0.5))[0]
    expected = torch.zeros(5, 6)
    expected[:, 0], expected[:, -1] = -2, 2  # zeros beyond the border: 4 x 0.5
    expected[[0, 0, -1, -1], [0, -1, 0, -1]] *= 0.75  # and of the corners' three rows one is zero
    assert torch.allclose(dx, expected, atol=1e-6)
    expected = torch.zeros(5, 6)
    expected[0], expected[-1] = -2, 2
    expected[[0, 0, -1, -1], [0, -1, 0, -1]] *= 0.75
    assert torch.allclose(dy, expected, atol=1e-6)


def test_sobel_of_ramps():
    ramp = torch.arange(8.0) / 10
    right = ramp.expand(1, 1, 8, 8)
    inside = slice(1, -1)
    for images, along, across in ((right, 0, 1), (right.mT, 1, 0)):
        for sign in (1, -1):
            edges = Sobel()(sign * images)[0, :, inside, inside]
            # Brighter to the right or below is negative: -8 times the slope.
            assert torch.allclose(edges[along], torch.tensor(-0.8 * sign), atol=1e-6)
            assert edges[across].abs().max() < 1e-6


def test_sobel_stays_in_its_range():
    images = torch.randint(2, (50, 1, 9, 9), generator=torch.Generator().manual_seed(0)).float()
    images[0] = torch.tensor([1, 0, 0]).repeat(3).view(1, 1, 9)  # an edge at its steepest
    edges = Sobel()(images)
    assert edges.abs().max() == 4


def test_colour_is_seen_as_pil_sees_grey():
    colours = np.random.default_rng(0).integers(256, size=(4096, 1, 3), dtype=np.uint8)
    expected = torch.from_numpy(np.asarray(Image.fromarray(colours).convert("L")).copy())[:, 0]
    images = torch.zeros(4096, 3, 3, 3)
    images[:, :, 1, 1] = torch.from_numpy(colours)[:, 0] / 255
    grey = Sobel()(images)[:, 0, 1, 2] / 2  # twice the pixel to the left
    # PIL rounds to whole numbers of 255.
    assert (255 * grey - expected).abs().max() < 0.5 + 1e-3


@pytest.mark.parametrize("channels", [1, 3])
def test_sobel_can_keep_the_image(channels):
    images = torch.rand(2, channels, 6, 7)
    kept = Sobel(keep=True)(images)
    assert kept.shape == (2, channels + 2, 6, 7)
    assert torch.equal(kept[:, :channels], images)
    assert torch.equal(kept[:, channels:], Sobel()(images))


def test_sobel_is_fixed_and_exact_under_autocast():
    sobel = Sobel()
    assert parameters(sobel) == 0
    assert not sobel.state_dict()
    images = torch.rand(2, 3, 6, 7)
    with torch.autocast("cpu", torch.bfloat16):
        edges = sobel(images)
    assert edges.dtype == torch.float32
    assert torch.equal(edges, sobel(images))


def test_sub_heads_equal_separate_classifiers():
    torch.manual_seed(0)
    head = SubHeads(6, 4, 3, std=None).double()
    features = torch.randn(5, 6, dtype=torch.float64)
    found = head(features)
    assert found.shape == (3, 5, 4)
    assert torch.allclose(found.sum(2), torch.ones(3, 5, dtype=torch.float64), atol=1e-14)
    for i in range(3):
        rows = slice(4 * i, 4 * (i + 1))
        logits = features @ head.linear.weight[rows].T + head.linear.bias[rows]
        assert torch.allclose(found[i], logits.softmax(1), atol=1e-14)
        # And no other sub-head's weights matter to it.
        (gradient,) = torch.autograd.grad(
            found[i, :, 0].sum(), head.linear.weight, retain_graph=True
        )
        touched = gradient.abs().sum(1) > 0
        assert touched.nonzero()[:, 0].tolist() == list(range(rows.start, rows.stop))


def test_sub_heads_start_small_as_the_official_ones_or_as_linear_layers():
    torch.manual_seed(0)
    weight, bias = SubHeads(512, 70, 5).linear.parameters()
    assert weight.std().item() == pytest.approx(0.01, rel=5 / (2 * weight.numel()) ** 0.5)
    assert (bias == 0).all()
    weight, bias = SubHeads(512, 70, 5, std=None).linear.parameters()
    bound = 512**-0.5  # PyTorch's default: uniform within 1 / sqrt(inputs)
    assert 0.99 * bound < weight.abs().max() <= bound
    assert 0.5 * bound < bias.abs().max() <= bound


def test_sub_heads_start_differently():
    torch.manual_seed(0)
    p = SubHeads(64, 10, 5)(torch.randn(20, 64))
    distances = torch.cdist(p.flatten(1), p.flatten(1))
    assert distances[~torch.eye(5, dtype=torch.bool)].min() > 0.01


def test_both_heads_of_stl10_have_as_many_parameters_as_in_the_recipe():
    # Model 569: five linear layers from 512 features to 70 clusters, five to 10.
    with META:
        count = parameters(SubHeads(512, 70, 5), SubHeads(512, 10, 5))
    assert count == 5 * (513 * 70 + 513 * 10)


def test_sub_heads_under_autocast_give_float32_rows_that_sum_to_one():
    torch.manual_seed(0)
    head = SubHeads(32, 70, 5, std=1.0)
    with torch.autocast("cpu", torch.bfloat16):
        p = head(torch.randn(9, 32))
    assert p.dtype == torch.float32
    assert (p.sum(2) - 1).abs().max() < 1e-6
