"""What goes with what: the two views of an image, a setting and its loss, an image and its row."""

import pytest
import torch
from torch import nn

from mixem.data import Augmentation
from mixem.losses import associative_embedding, component_diversity, instance_confidence, nt_xent
from mixem.methods import Method, MixEM, SimCLR, extract

IMAGES, SIZE = 6, 4


def method_of(kind: type[Method], backbone: nn.Module, **settings) -> Method:
    """A method with a random head; the only place here that knows how one is made."""
    torch.manual_seed(0)
    return kind(backbone, Augmentation(size=SIZE), kind.Settings(**settings), clusters=2)


class Pixels(nn.Flatten):
    """A backbone whose features are the pixels, so that images stay as different as they are."""

    out_features = SIZE**2


@pytest.fixture
def views() -> torch.Tensor:
    """Two views of each image that differ, and images that differ far more: ``(2, B, 1, h, w)``."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(IMAGES, 1, SIZE, SIZE, generator=generator)
    return images + 0.3 * torch.randn(2, IMAGES, 1, SIZE, SIZE, generator=generator)


def simclr_embeddings(method, view):
    return method.head(view.flatten(1))


def mixem_embeddings(method, view):
    return method.mixture(view.flatten(1))[0]


METHODS = pytest.mark.parametrize(
    ("kind", "embeddings"), [(SimCLR, simclr_embeddings), (MixEM, mixem_embeddings)]
)


@METHODS
def test_the_two_views_of_an_image_are_a_pair(kind, embeddings, views):
    method = method_of(kind, Pixels())
    z1, z2 = (embeddings(method, view) for view in views)
    expected = nt_xent(z1, z2, temperature=0.5).item()
    found = method.step(views).terms["contrast"].item()
    assert found == pytest.approx(expected, rel=1e-5)
    # Any other pairs would be seen: those of a batch whose views lie beside each other ...
    other = torch.stack([z1, z2], 1).flatten(0, 1)
    assert nt_xent(*other.chunk(2), temperature=0.5).item() > expected + 0.1
    # ... and those of a batch whose second views have moved on by one.
    assert nt_xent(z1, z2.roll(1, 0), temperature=0.5).item() > expected + 0.1


@METHODS
@pytest.mark.parametrize("temperature", [0.1, 2.0])
def test_the_temperature_is_handed_on(kind, embeddings, temperature, views):
    method = method_of(kind, Pixels(), temperature=temperature)
    expected = nt_xent(*(embeddings(method, view) for view in views), temperature=temperature)
    found = method.step(views).terms["contrast"].item()
    assert found == pytest.approx(expected.item(), rel=1e-5)


def test_mixem_adds_its_other_terms_over_the_views(views):
    method = method_of(MixEM, Pixels(), components=3)
    terms = method.step(views).terms
    expected = dict.fromkeys(("diversity", "confidence", "pull", "push"), 0.0)
    for view in views:
        z, p = method.mixture(view.flatten(1))
        pull, push = associative_embedding(z, p)
        expected["diversity"] += 2 * component_diversity(p).item()
        expected["confidence"] += 0.1 * instance_confidence(p).item()
        expected["pull"] += 0.1 * pull.item()
        expected["push"] += 0.05 * push.item()
    found = {name: terms[name].item() for name in expected}
    assert found == pytest.approx(expected, rel=1e-5)


def test_the_contrast_teaches_the_gate_too(views):
    method = method_of(MixEM, Pixels(), components=3)
    method.step(views).terms["contrast"].backward()
    for name, parameter in method.head.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.any(), name


class Numbered(Method):
    """Its features are an image's own number, which the first two pixels hold."""

    def features(self, images: torch.Tensor) -> torch.Tensor:
        self.seen.append(images[:, 0, 0, 0].long() + 256 * images[:, 0, 0, 1].long())
        return self.seen[-1][:, None]


def numbered(*, needs_a_batch: bool) -> Numbered:
    backbone = nn.Sequential(nn.BatchNorm1d(1, track_running_stats=not needs_a_batch))
    backbone.out_features = 1
    method = method_of(Numbered, backbone)
    method.seen = []
    return method


@pytest.mark.parametrize("batch_size", [1, 7, 64, 1024])
@pytest.mark.parametrize("in_order", [False, True])
@pytest.mark.parametrize("needs_a_batch", [False, True])
def test_extract_gives_each_image_its_own_row(needs_a_batch, in_order, batch_size):
    numbers = torch.arange(300)
    images = torch.zeros(300, 1, SIZE, SIZE, dtype=torch.uint8)
    images[:, 0, 0, 0], images[:, 0, 0, 1] = numbers % 256, numbers // 256
    method = numbered(needs_a_batch=needs_a_batch)
    assert method.needs_a_batch == needs_a_batch
    found = extract(method, images, batch_size=batch_size, in_order=in_order)
    assert torch.equal(found[:, 0].long(), numbers)
    # Mixed is only what depends on its batch, and only on the way.
    mixed = not torch.equal(torch.cat(method.seen), numbers)
    assert mixed == (needs_a_batch and not in_order)
