"""From settings to an untrained method, its images and its start."""

import pytest
import torch

from mixem.data import load_images
from mixem.errors import InputError
from mixem.experiments import EXPERIMENTS, get
from mixem.experiments.build import build, load_sets, loader, picture_size, start_of


@pytest.fixture(scope="module")
def tiny_mixem():
    """digits/mixem on images of 8 x 8, from random weights."""
    return get("digits/mixem").override(views__size=8, start=None)


@pytest.mark.parametrize(
    ("name", "side"),
    [
        ("stl10/iic", 96),  # crops of 64 pixels
        ("mnist/iic", 28),
        ("digits/iic", 16),
        ("stl10/imc-swav", 96),  # plain_size
        ("cifar10/imc-swav", 32),
        ("cifar10/simclr", 32),
    ],
)
def test_pictures_of_a_folder_are_as_large_as_the_recipe_wants(name, side):
    assert picture_size(get(name)) is None
    assert picture_size(get(name).on("folder:photos")) == side


def test_the_start_uses_the_pictures_too():
    # stl10/simclr fits on "test", a split that a flat folder does not have.
    experiment = get("stl10/mixem").on("folder:photos").override(clusters=3)
    start = start_of(experiment)
    assert (start.name, start.method, start.start) == ("stl10/simclr", "simclr", None)
    splits = (start.images, start.train_split, start.test_split, start.protocol.fit_split)
    assert splits == ("folder:photos", "all", "all", "all")
    assert (start.clusters, start.views) == (3, experiment.views)
    assert start.protocol.init == "k-means++"


@pytest.mark.parametrize("name", [name for name, e in EXPERIMENTS.items() if e.start])
def test_an_unchanged_start_is_the_experiment_it_names(name):
    assert start_of(get(name)) == get(get(name).start)


def test_weights_are_drawn_from_the_seed_alone(tiny_mixem):
    torch.manual_seed(5)
    before = torch.get_rng_state()
    first = build(tiny_mixem, channels=1, seed=3)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(6)
    again, other = build(tiny_mixem, channels=1, seed=3), build(tiny_mixem, channels=1, seed=4)
    for name, value in first.state_dict().items():
        assert torch.equal(value, again.state_dict()[name]), name
    assert not torch.equal(first.head.weight, other.head.weight)


def test_settings_reach_the_method():
    experiment = get("digits/mixem").override(
        clusters=7,
        settings__components=4,
        settings__embedding_size=6,
        settings__temperature=0.3,
        settings__diversity_weight=1.5,
        settings__confidence="entropy",
        settings__extra_projection=True,
    )
    method = build(experiment, channels=3, seed=0)
    assert method.centres.shape == (7, 128)
    assert method.head.weight.shape == (4, 128, 6)
    assert method.settings is experiment.settings
    assert (method.settings.temperature, method.settings.diversity_weight) == (0.3, 1.5)
    assert len(method.projection) == 3
    assert method.backbone.layers[0].in_channels == 3
    simclr = build(start_of(experiment), channels=3, seed=0)
    assert simclr.settings.temperature == get("digits/simclr").settings.temperature


def test_images_in_memory_by_split(tiny_mixem):
    experiment = tiny_mixem.override(
        train_split="train", test_split="test", protocol__fit_split="train"
    )
    mine = {
        split: load_images("digits", split=split).subset(slice(20)) for split in ("train", "test")
    }
    sets = load_sets(experiment, loader(experiment, images=mine))
    assert (sets.train, sets.test, sets.fit) == (mine["train"], mine["test"], mine["train"])
    assert sets.fit_apart is mine["train"]
    assert sets.all() == [mine["train"], mine["test"]]
    with pytest.raises(
        InputError,
        match=r"images has no 'test'; digits/mixem wants it: give .* \(there are train\)",
    ):
        load_sets(experiment, loader(experiment, images={"train": mine["train"]}))
    with pytest.raises(InputError, match=r"\(there are none\)"):
        load_sets(experiment, loader(experiment, images={}))


def test_each_pass_has_its_own_images():
    experiment = get("digits/iic").override(train_split="test", settings__over_split="train")
    sets = load_sets(experiment, loader(experiment))
    method = build(experiment, channels=1, seed=0)
    assert {name: len(images) for name, images in sets.of(method).items()} == {
        "main": 500, "over": 1297,
    }  # fmt: skip
    plain = get("digits/iic")
    sets = load_sets(plain, loader(plain))
    assert set(map(len, sets.of(method).values())) == {1797}
    assert sets.fit_apart is None
