"""The experiments: settings, their sources, changes."""

import dataclasses
import json

import pytest
import torch

from mixem.data import load_images
from mixem.errors import InputError
from mixem.experiments import EXPERIMENTS, Experiment, get
from mixem.methods import IICSettings
from mixem.models import BACKBONES, make_backbone

EVERY = pytest.mark.parametrize("experiment", EXPERIMENTS.values(), ids=list(EXPERIMENTS))


SEGMENTED = ("coco-stuff-3", "coco-stuff", "potsdam-3", "potsdam")  # of table 4
SCAN = {name for name in EXPERIMENTS if "/scan" in name}
PRETRAINED = {
    f"pretrained/{method}" for method in ("kmeans", "iic", "scan", "mixem", "imc-swav", "temi")
}
PHOTOS = {f"photos/{method}" for method in ("simclr", "mixem", "iic", "imc-swav")}

BASELINES = ("kmeans", "kmeans-untrained", "spectral", "auto-encoder")


def test_the_experiments_there_are():
    published = [
        f"{images}/{method}"
        for images in ("digits", "stl10", "cifar10", "cifar100-20")
        for method in ("simclr", "mixem", "iic", "imc-swav")
    ]
    assert set(published) <= set(EXPERIMENTS)
    ablations = ("no-overclustering", "one-sub-head", "no-repeats", "no-unlabelled")
    plus = ("stl10", "cifar10", "cifar100-20", "mnist", "digits")
    assert set(EXPERIMENTS) - set(published) == {
        "mnist/iic",
        "mnist/iic-overclustering",
        "mnist/iic-short",
        "cifar100/imc-swav",
        "tiny-imagenet/imc-swav",
        *(f"mnist/{method}-small" for method in ("simclr", "mixem", "iic", "imc-swav")),
        *(f"cifar10/{method}-small" for method in ("simclr", "mixem", "imc-swav")),
        "stl10/iic-main-twice",
        "stl10/iic-plus-70",
        "stl10/iic-finetune",
        "digits/iic-finetune",
        "mnist/iic-finetune-short",
        "mnist/iic-plus-short",
        *(f"stl10/iic-{name}" for name in ablations),
        *(f"{images}/iic-plus" for images in plus),
        *(f"fashion-mnist/{method}" for method in ("simclr", "mixem", "iic", "imc-swav")),
        *(f"{images}/{method}" for images in ("mnist", "fashion-mnist") for method in BASELINES),
        *SCAN,
        *PRETRAINED,
        *PHOTOS,
        *(f"{images}/iic-segmentation" for images in ("textures", "brain", *SEGMENTED)),
        *(f"{images}/iic-segmentation-plus" for images in SEGMENTED),
        *(f"{images}-3/iic-segmentation-lambda-1" for images in ("coco-stuff", "potsdam")),
    }


@EVERY
def test_names_say_what_an_experiment_is(experiment):
    assert EXPERIMENTS[experiment.name] is experiment
    assert get(experiment.name) is experiment
    family = {"finetune": "iic-finetune", "self-label": "scan-self-label"}
    method = family.get(experiment.method, experiment.method)
    if experiment.name.endswith("/scan-simclr"):
        method = f"scan-{method}"
    images = "pretrained" if experiment.backbone == "vectors" else experiment.images
    if experiment.name in PHOTOS:  # for folders; CIFAR-10 stands in for one
        images = "photos"
    assert experiment.name.startswith(f"{images}/{method}")
    assert experiment.backbone in BACKBONES


@EVERY
def test_every_value_has_a_source_and_every_source_a_value(experiment):
    for path in experiment.values():
        assert experiment.source(path).strip(), path
    parts = [path.split(".") for path in experiment.values()]
    groups = {".".join(path[:end]) for path in parts for end in range(1, len(path))}
    assert set(experiment.sources) <= {*experiment.values(), *groups}


@EVERY
def test_a_start_is_of_the_same_images_and_backbone(experiment):
    if experiment.method == "finetune":
        return
    starts = {"mixem": "simclr", "scan": "simclr", "self-label": "scan"}
    heads = experiment.backbone == "vectors" and experiment.method != "self-label"
    if experiment.method not in starts or heads:
        assert experiment.start is None
        return
    start = get(experiment.start)
    assert start.method == starts[experiment.method]
    shared = ("images", "train_split", "test_split", "backbone", "clusters")
    for name in (*shared, "views") if experiment.method == "mixem" else shared:
        assert getattr(start, name) == getattr(experiment, name), name


def test_finetuning_starts_from_a_trunk_with_all_its_layers():
    experiment = get("stl10/iic-finetune")
    start = get(experiment.start)
    assert (start.method, start.images, start.settings.mapping) == ("iic", "stl10", "majority")
    whole, part = (
        make_backbone(e.backbone, in_channels=3, size=e.views.size) for e in (start, experiment)
    )
    assert part.out_features == 256 * 9 * 9
    shapes = {name: value.shape for name, value in whole.state_dict().items()}
    assert part.state_dict().keys() < shapes.keys()
    assert all(shapes[name] == value.shape for name, value in part.state_dict().items())


@pytest.mark.parametrize("name", ["digits/iic-finetune", "mnist/iic-finetune-short"])
def test_a_few_labels_go_on_from_a_trunk_that_has_not_seen_the_test_images(name):
    experiment = get(name)
    start = get(experiment.start)
    assert (start.method, start.settings.mapping) == ("iic", "majority")
    assert start.train_split == experiment.train_split == "train"
    assert start.test_split == experiment.test_split == "test"
    for shared in ("images", "backbone", "views"):
        assert getattr(start, shared) == getattr(experiment, shared)
    # The labels of the few are drawn by the split, and the steps do not depend on them.
    few = experiment.override(train_split="train/5").training
    batches = 1  # fifty images of one batch
    assert few.lasting(batches).epochs == few.least_steps > few.epochs


def test_the_short_recipe_of_iic_plus_on_mnist():
    """The paper's clusters, views, head and mapping; the network and the length are ours."""
    paper, short = get("mnist/iic-plus").values(), get("mnist/iic-plus-short").values()
    changed = {path for path, value in short.items() if value != paper[path]}
    assert {path for path in changed if not path.startswith("training.")} == {
        "name", "backbone", "settings.repeats", "settings.head_std",
    }  # fmt: skip


def test_the_settings_of_the_finetuning():
    values = get("stl10/iic-finetune").values()
    official = {
        "train_split": "train",
        "test_split": "test",
        "clusters": 10,
        "views.size": 64,
        "views.crop_sides": (64,),
        "views.plain_side": 64,
        "views.flip": 0.5,
        "views.affine": 0.5,
        "views.affine_first": False,
        "views.degrees": 18,
        "views.translate": 0.1,
        "views.scale": (0.9, 1.1),
        "views.shear": 10,
        "views.cutout": 0.5,
        "views.brightness": 0.4,
        "views.contrast": 0.4,
        "views.saturation": 0.4,
        "views.hue": 0.125,
        "views.jitter": 1.0,
        "settings.hidden": 2048,
        "training.epochs": 8000,
        "training.batch_size": 700,
        "training.learning_rate": 1e-3,
        "training.weight_decay": 0.0,
        "training.constant_epochs": 8000,
    }
    assert {path: values[path] for path in official} == official
    assert values["settings.trunk_rate"] * values["training.learning_rate"] == pytest.approx(1e-4)
    sides = [int(share * 64) for share in values["views.cutout_sides"]]
    assert sides == [12, 44]  # int(0.2 * 64) and int(0.7 * 64)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"settings__hidden": 0}, "hidden is 0; give at least 1"),
        ({"settings__trunk_rate": -0.1}, "trunk_rate is -0.1; give at least 0"),
        ({"settings__trunk_rate": float("inf")}, "trunk_rate is inf"),
        ({"method": "iic"}, "iic with FinetuneSettings; give IICSettings"),
    ],
    ids=str,
)
def test_impossible_settings_of_the_finetuning(changes, message):
    with pytest.raises(InputError, match=message):
        get("stl10/iic-finetune").override(**changes)


@EVERY
def test_experiments_are_frozen(experiment):
    for part in (experiment, experiment.views, experiment.settings, experiment.training):
        name = dataclasses.fields(part)[0].name
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(part, name, getattr(part, name))


# MIX'EM's official config.yaml, train.py and data_aug/, as far as the sets share it.
OFFICIAL = {
    "settings.embedding_size": 32,
    "settings.temperature": 0.5,
    "settings.diversity_weight": 2.0,
    "settings.confidence_weight": 0.1,
    "settings.pull_weight": 0.1,
    "settings.push_weight": 0.05,
    "settings.confidence": "confidence",
    "settings.extra_projection": False,
    "training.epochs": 200,
    "training.batch_size": 512,
    "training.weight_decay": 1e-5,
    "training.constant_epochs": 10,
    "views.crop_scale": (0.08, 1.0),
    "views.crop_ratio": (3 / 4, 4 / 3),
    "views.flip": 0.5,
    "views.brightness": 0.8,
    "views.contrast": 0.8,
    "views.saturation": 0.8,
    "views.hue": 0.2,
    "views.jitter": 0.8,
    "views.grey": 0.2,
    "views.blur": 0.5,
    "views.blur_sigma": (0.1, 2.0),
    "protocol.normalise": True,
    "protocol.max_iter": 10,
    "protocol.n_init": 50,
    "protocol.init": "components",
    "test_split": "test",
}
OWN = {
    "stl10/mixem": {
        "backbone": "resnet18",
        "clusters": 10,
        "settings.components": 10,
        "training.learning_rate": 1e-4,
        "views.size": 96,
        "views.blur_kernel": 9,
        "views.mean": (),
    },
    "cifar10/mixem": {
        "backbone": "resnet18-cifar",
        "clusters": 10,
        "settings.components": 10,
        "training.learning_rate": 5e-4,
        "views.size": 32,
        "views.blur_kernel": 3,
        "views.mean": (0.4914, 0.4822, 0.4465),
        "views.std": (0.2023, 0.1994, 0.2010),
    },
    "cifar100-20/mixem": {
        "backbone": "resnet18-cifar",
        "clusters": 20,
        "settings.components": 20,
        "training.learning_rate": 5e-4,
        "views.size": 32,
        "views.blur_kernel": 3,
        "views.mean": (0.507, 0.487, 0.441),
        "views.std": (0.267, 0.256, 0.276),
    },
}


@pytest.mark.parametrize("name", OWN)
def test_the_papers_settings(name):
    values = get(name).values()
    for path, expected in (OFFICIAL | OWN[name]).items():
        assert values[path] == expected, path


def test_digits_keep_the_papers_weights_of_the_losses():
    values = get("digits/mixem").values()
    for path in OFFICIAL:
        if path.endswith("_weight"):
            assert values[path] == OFFICIAL[path], path


# IIC's official commands: what differs between the runs.
IIC_RUNS = {
    "stl10/iic": ("clusternet5g", 64, 10, 70, 5, 140, ("over", "main")),
    "cifar10/iic": ("clusternet5g-batch", 32, 10, 70, 3, 220, ("over", "main", "main")),
    "cifar100-20/iic": ("clusternet5g", 32, 20, 140, 5, 200, ("main", "over")),
    "mnist/iic": ("clusternet6c-batch", 24, 10, 50, 5, 140, ("main", "main", "main")),
    "mnist/iic-overclustering": (
        "clusternet6c-batch",
        24,
        10,
        50,
        5,
        140,
        ("main", "main", "over"),
    ),
}
IIC_PLUS = {
    "stl10/iic-plus": ("clusternet5g", 64, 140, 1400, 5),
    "cifar10/iic-plus": ("clusternet5g", 32, 140, 1320, 3),
    "cifar100-20/iic-plus": ("clusternet6c-sobel", 24, 280, 2800, 5),
    "mnist/iic-plus": ("clusternet6c", 24, 25, 350, 5),
    "stl10/iic-plus-70": ("clusternet5g", 64, 70, 700, 5),
}


@pytest.mark.parametrize("name", IIC_RUNS)
def test_the_settings_of_iic(name):
    e = get(name)
    assert (
        e.backbone,
        e.views.size,
        e.clusters,
        e.settings.over_clusters,
        e.settings.repeats,
        e.training.batch_size,
        e.settings.passes,
    ) == IIC_RUNS[name]
    assert (e.settings.sub_heads, e.settings.lamb, e.settings.head_std) == (5, 1.0, 0.01)
    assert {e.training.rate(epoch) for epoch in (0, 10, e.training.epochs - 1)} == {1e-4}
    assert e.training.weight_decay == 0
    assert e.settings.mapping == "one-to-one"


def test_the_small_recipes_of_iic_on_mnist():
    """One has the paper's views, the other its own; little else differs."""
    paper, short, small = map(get, ("mnist/iic", "mnist/iic-short", "mnist/iic-small"))
    assert short.views == paper.views
    changed = {path for path, value in small.values().items() if value != short.values()[path]}
    assert {path for path in changed if not path.startswith("views.")} == {
        "name", "settings.sub_heads", "settings.clear_steps", "training.schedule",
    }  # fmt: skip
    steps = 70_000 // small.training.batch_size
    assert small.settings.passes[:2] == ("main", "main")
    assert small.settings.clear_steps == 2 * steps  # as its source says
    assert small.views.cutout_width == small.views.cutout == 1.0
    assert paper.settings.clear_steps == paper.views.cutout == 0


@pytest.mark.parametrize("name", IIC_PLUS)
def test_the_settings_of_iic_plus(name):
    e = get(name)
    pairs = e.training.batch_size * e.settings.repeats
    found = (e.backbone, e.views.size, e.clusters, pairs, e.settings.repeats)
    assert found == IIC_PLUS[name]
    assert e.settings.passes == ("main",)
    assert (e.test_split, e.protocol.fit_split, e.settings.mapping) == ("test", "train", "majority")
    assert e.train_split == ("train+unlabeled" if e.images == "stl10" else "train")


# IMC-SwAV's official code and README: what the sets share, and what differs.
IMC_SWAV = {
    "test_split": "test",
    "views.crop_scale": (0.2, 1.0),
    "settings.small_views.crop_scale": (0.08, 0.4),
    **{
        f"{views}.{name}": value
        for views in ("views", "settings.small_views")
        for name, value in {
            "crop_ratio": (3 / 4, 4 / 3),
            "flip": 0.5,
            "brightness": 0.4,
            "contrast": 0.4,
            "saturation": 0.4,
            "hue": 0.1,
            "jitter": 0.8,
            "grey": 0.25,
            "blur": 0.0,
            "degrees": 0.0,
            "cutout": 0.0,
        }.items()
    },
    "settings.large": 2,
    "settings.small": 4,
    "settings.embedding_size": 128,
    "settings.hidden": 1024,
    "settings.prototypes": 1000,
    "settings.temperature": 0.1,
    "settings.epsilon": 0.05,
    "settings.iterations": 3,
    "settings.entropy_weight": 4.0,
    "settings.penalty_weight": 0.01,
    "settings.frozen_steps": 500,
    "settings.one_pass": False,
    "training.epochs": 500,
    "training.learning_rate": 5e-4,
    "training.weight_decay": 1e-5,
    "training.betas": (0.8, 0.999),
    "training.warmup_steps": 500,
    "training.schedule": "milestones",
    "training.decay": 0.4,
    "protocol.fit_split": "train",
    "start": None,
}
IMC_SWAV_KEYS = (
    "images", "train_split", "backbone", "clusters", "training.batch_size", "settings.bank",
    "views.size", "settings.small_views.size", "views.plain_size",
)  # fmt: skip
IMC_SWAV_RUNS = {
    "cifar10": ("train", "resnet18-cifar", 10, 256, False, 28, 18, 32),
    "cifar100-20": ("train", "resnet18-cifar", 20, 256, False, 28, 18, 32),
    "cifar100": ("train", "resnet18-cifar", 100, 512, False, 28, 18, 32),
    "stl10": ("train+unlabeled", "resnet18-stl", 10, 256, True, 76, 52, 96),
    "tiny-imagenet": ("train", "resnet18-stl", 200, 512, False, 56, 36, 64),
}
IMC_SWAV_COLOURS = {
    "cifar10": ((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)),
    "cifar100-20": ((0.5071, 0.4867, 0.4408), (0.2675, 0.2565, 0.2761)),
    "cifar100": ((0.5071, 0.4867, 0.4408), (0.2675, 0.2565, 0.2761)),
    "stl10": ((0.43, 0.42, 0.39), (0.27, 0.26, 0.27)),
    "tiny-imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
}


@pytest.mark.parametrize("images", IMC_SWAV_RUNS)
def test_the_settings_of_imc_swav(images):
    experiment = get(f"{images}/imc-swav")
    values = experiment.values()
    assert {path: values[path] for path in IMC_SWAV} == IMC_SWAV
    assert tuple(values[path] for path in IMC_SWAV_KEYS) == (images, *IMC_SWAV_RUNS[images])
    for views in (experiment.views, experiment.settings.small_views):
        assert (views.mean, views.std) == IMC_SWAV_COLOURS[images]
    rates = [experiment.training.rate(epoch) for epoch in (0, 149, 150, 299, 300, 399, 400, 499)]
    stairs = [rate for rate in (5e-4, 2e-4, 8e-5, 3.2e-5) for _ in range(2)]
    assert rates == pytest.approx(stairs)


@pytest.mark.parametrize(
    "name", [name for name in {*EXPERIMENTS} - PRETRAINED if "/imc-swav" in name]
)
def test_the_backbone_of_imc_swav_takes_all_its_views(name):
    experiment = get(name)
    with torch.device("meta"):
        net = make_backbone(experiment.backbone, in_channels=3, size=experiment.views.size)
        sizes = {
            experiment.views.size,
            experiment.settings.small_views.size,
            experiment.views.plain_size,
        }
        for size in sizes - {None}:
            assert net(torch.empty(2, 3, size, size)).shape == (2, net.out_features)


def test_small_views_can_be_changed():
    plain = get("digits/imc-swav")
    changed = plain.override(
        settings__small_views__size=8, settings__small_views__crop_scale=(0.1, 0.2)
    )
    small = changed.settings.small_views
    assert (small.size, small.crop_scale) == (8, (0.1, 0.2))
    assert changed.views == plain.views
    assert changed.source("settings.small_views.size") == "changed for this run"
    assert plain.override(settings__small_views=None).settings.small_views is None
    assert plain.override(views__plain_size=None).views.plain_size is None
    with pytest.raises(InputError, match=r"no setting 'settings.small_views.size' to change"):
        get("digits/iic").override(settings__small_views__size=8)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"large": 1}, "large is 1; give at least 2"),
        ({"small": -1}, "small is -1; give at least 0"),
        ({"prototypes": 1}, "prototypes is 1; give at least 2"),
        ({"embedding_size": 0}, "embedding_size is 0"),
        ({"hidden": 0}, "hidden is 0"),
        ({"iterations": -1}, "iterations is -1"),
        ({"frozen_steps": -1}, "frozen_steps is -1"),
        ({"entropy_weight": -1.0}, "entropy_weight is -1.0"),
        ({"penalty_weight": float("nan")}, "penalty_weight is nan"),
        ({"temperature": 0.0}, "temperature is 0.0; give a positive number"),
        ({"epsilon": float("inf")}, "epsilon is inf; give finite numbers"),
    ],
    ids=str,
)
def test_impossible_settings_of_imc_swav(changes, message):
    with pytest.raises(InputError, match=message):
        get("digits/imc-swav").override(**{f"settings__{k}": v for k, v in changes.items()})


def test_the_ablations_of_iic_change_one_thing_each():
    full = get("stl10/iic").values()
    changes = {
        "no-overclustering": {"settings.over_clusters"},
        "one-sub-head": {"settings.sub_heads"},
        "no-repeats": {"settings.repeats", "training.batch_size"},
        "no-unlabelled": {"settings.over_split"},
    }
    for name, paths in changes.items():
        values = get(f"stl10/iic-{name}").values()
        assert {path for path in full if full[path] != values[path]} == {"name", *paths}


def test_a_change_is_made_and_said_to_be_one():
    plain = get("digits/mixem")
    changed = plain.override(training__epochs=2, views__flip=1, settings__extra_projection=True)
    assert (changed.training.epochs, changed.views.flip) == (2, 1.0)
    assert isinstance(changed.views.flip, float)
    assert changed.source("training.epochs") == "changed for this run"
    assert changed.source("training.batch_size") == plain.source("training.batch_size")
    different = {p for p, value in changed.values().items() if value != plain.values()[p]}
    assert different == {"training.epochs", "views.flip", "settings.extra_projection"}
    assert get("digits/mixem") == plain
    assert plain.override() == plain


def test_what_may_be_none():
    experiment = get("digits/mixem").override(
        start=None, views__scale=None, views__blur_kernel=None
    )
    assert (experiment.start, experiment.views.scale, experiment.views.blur_kernel) == (None,) * 3
    assert get("digits/mixem").override(start="stl10/simclr").start == "stl10/simclr"
    with pytest.raises(InputError, match="simclr begins from random weights; leave start out"):
        get("stl10/simclr").override(start="digits/simclr")
    with pytest.raises(InputError, match="epochs is None, of type NoneType"):
        experiment.override(training__epochs=None)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"training__epoch": 2}, r"no setting 'training.epoch' .* mean 'training.epochs'\?"),
        ({"epochs": 2}, r"no setting 'epochs'"),
        ({"training": 2}, "training is 2, of type int; give a TrainConfig"),
        ({"zzz": 2}, "no setting 'zzz' to change; there are method, images"),
        ({"name": "mine"}, "no setting 'name'"),
        ({"sources": {}}, "no setting 'sources'"),
        ({"training__epochs": 2.5}, "training.epochs is 2.5, of type float; give a int like"),
        ({"training__epochs": "2"}, "training.epochs is '2', of type str"),
        ({"over_split": "test"}, "no setting 'over_split'"),
        ({"starts": 3}, "no setting 'starts'"),
        ({"start": 3}, "start is 3, of type int; give a str"),
        ({"settings__over_split": "test"}, "no setting 'settings.over_split'"),
        ({"views__mean__first": 1}, "no setting 'views.mean.first'"),
        ({"views__scale": {}}, "views.scale is {}, of type dict; give a tuple"),
        ({"training__epochs": True}, "training.epochs is True, of type bool"),
        ({"settings__extra_projection": 1}, "of type int; give a bool"),
        ({"training__learning_rate": True}, "of type bool; give a float"),
        ({"backbone": 18}, "backbone is 18"),
        ({"training__epochs": 0}, "epochs is 0; give at least 1"),
        ({"settings__temperature": 0.0}, "temperature is 0.0; give a positive number"),
        ({"settings__components": 0}, "components is 0; give at least 1"),
        ({"settings__embedding_size": 0}, "embedding_size is 0"),
        ({"settings__confidence": "max"}, "confidence is 'max'"),
        ({"clusters": 0}, "0 clusters; give at least 1"),
        ({"method": "swav"}, "method is 'swav'; give one of simclr, mixem, iic"),
        ({"method": "iic"}, "iic with MixEMSettings; give IICSettings"),
        ({"protocol__init": "random"}, "init is 'random'"),
        ({"views__flip": 2.0}, "flip"),
        ({"views__size": 10**6}, "views.size is 1000000; give at most 4096 pixels"),
        (
            {"views__crop_scale": None, "views__crop_sides": (8, 9999)},
            r"views.crop_sides is \(8, 9999\); give at most 4096",
        ),
    ],
    ids=lambda value: str(value)[:30] if isinstance(value, dict) else "",
)
def test_impossible_changes(changes, message):
    with pytest.raises(InputError, match=message) as error:
        get("digits/mixem").override(**changes)
    assert str(error.value).isprintable()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("digit/mixem", "there is no experiment 'digit/mixem'; did you mean 'digits/mixem'?"),
        ("cifar10/simcl", "did you mean 'cifar10/simclr'?"),
        ("", "see python -m mixem list"),
    ],
)
def test_unknown_experiments(name, message):
    with pytest.raises(InputError) as error:
        get(name)
    assert message in str(error.value)


def test_other_images_serve_for_everything():
    e = get("stl10/iic").on("folder:photos")
    paths = ("train_split", "test_split", "protocol.fit_split")
    assert {e.values()[path] for path in paths} == {"all"}
    assert e.settings.over_split is None
    assert e.source("images") == "changed for this run"
    assert get("digits/simclr").on("mnist").train_split == "train+test"
    assert get("digits/simclr").on("mnist", split="test").protocol.fit_split == "test"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"settings__head_std": "abc"}, "head_std is 'abc', of type str; give a float"),
        ({"settings__head_std": -1}, "head_std is -1.0; give at least 0"),
        ({"settings__passes": ("main", "a")}, "passes are .*give 'main', and 'over'"),
        ({"settings__mapping": "best"}, "mapping is 'best'; give 'one-to-one' or 'majority'"),
        ({"settings__over_split": 3}, "over_split is 3, of type int; give a str"),
        ({"settings__plain_views": 3}, "plain_views is 3, of type int; give a Augmentation"),
    ],
)
def test_impossible_settings_of_iic(changes, message):
    with pytest.raises(InputError, match=message):
        get("digits/iic").override(**changes)


def test_a_list_or_a_single_value_does_for_a_tuple():
    changed = get("digits/iic").override(training__snapshots=5, settings__passes=["main", "main"])
    assert changed.training.snapshots == (5,)
    assert changed.settings.passes == ("main", "main")


def test_the_order_of_changes_does_not_matter():
    """Mean and deviation belong together: one without the other is refused."""
    plain = get("cifar10/simclr")
    assert len(plain.views.mean) == len(plain.views.std) == 3
    for changed in (
        plain.override(views__mean=(), views__std=()),
        plain.override(views__std=(), views__mean=()),
        plain.override({"views.mean": (), "views.std": ()}),
        plain.override({"views.std": ()}, views__mean=()),
    ):
        assert (changed.views.mean, changed.views.std) == ((), ())
        assert changed.source("views.std") == "changed for this run"
    for path in ("views.mean", "views.std"):
        with pytest.raises(InputError, match=r"mean.*std") as error:
            plain.override({path: ()})
        assert str(error.value).isprintable()


@pytest.mark.parametrize("first", ["views", "views.flip"])
def test_a_group_is_given_as_a_whole_or_in_parts(first):
    experiment = get("digits/simclr")
    changes = {"views": experiment.views, "views.flip": 0.5}
    changes = {first: changes.pop(first)} | changes
    with pytest.raises(InputError, match="views is given as a whole and in parts; give one"):
        experiment.override(changes)
    views = dataclasses.replace(experiment.views, flip=0.5)
    assert experiment.override(views=views) == experiment.override(views__flip=0.5)


def test_another_method_is_not_a_change_of_one_setting():
    simclr = get("digits/simclr")
    with pytest.raises(InputError, match=r"of type IICSettings; give a SimCLRSettings like"):
        simclr.override(method="iic", settings=IICSettings(sub_heads=2))
    changed = dataclasses.replace(simclr, method="iic", settings=IICSettings(sub_heads=2))
    assert changed.values()["settings.sub_heads"] == 2
    with pytest.raises(InputError, match=r"no setting 'training\.a\.b' to change"):
        simclr.override({"training.a.b": 1})


def test_the_images_in_memory_give_name_and_split():
    digits = load_images("digits", split="test")
    changed = get("digits/iic").on(dataclasses.replace(digits, name="mine", split="some"))
    assert (changed.images, changed.train_split, changed.test_split) == ("mine", "some", "some")
    assert changed.protocol.fit_split == "some"


@EVERY
def test_every_experiment_survives_json(experiment):
    values = json.loads(json.dumps(experiment.to_dict()))
    again = Experiment.from_dict(values)
    assert again == experiment
    assert again.to_dict() == experiment.to_dict()
    assert type(again.settings) is type(experiment.settings)


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_settings_survive_json(name):
    experiment = get(name).override(views__size=24)
    assert Experiment.from_dict(json.loads(json.dumps(experiment.to_dict()))) == experiment
    assert "sources" not in experiment.to_dict()


@pytest.mark.parametrize(
    "spoil",
    [
        lambda values: values.pop("views"),
        lambda values: values["training"].update(nesterov=0.9),
        lambda values: values.update(colour="blue"),
        lambda values: values.pop("clusters"),
        lambda values: values.pop("method"),
        lambda values: values.update(method="swav"),
        lambda values: values.update(clusters="10"),
        lambda values: values["settings"].update(components=10),
    ],
)
def test_settings_of_another_version(spoil):
    values = get("digits/simclr").to_dict()
    spoil(values)
    with pytest.raises(InputError, match="another version of mixem"):
        Experiment.from_dict(values)


# Of the author's runs, by name: k, k of the second head (None: there is none), batch, learning
# rate, lambda of the main head, displacement, size, strength of the jitter.
SEGMENTATION = {
    "coco-stuff-3/iic-segmentation": (3, 15, 120, 1e-4, 1.5, 10, 128, 0.4),
    "coco-stuff/iic-segmentation": (15, 45, 60, 1e-4, 1.0, 10, 128, 0.4),
    "potsdam-3/iic-segmentation": (3, 24, 75, 1e-5, 1.5, 10, 200, 0.1),
    "potsdam/iic-segmentation": (6, 36, 60, 1e-6, 1.0, 5, 200, 0.1),
    "coco-stuff-3/iic-segmentation-lambda-1": (3, 15, 120, 1e-4, 1.0, 10, 128, 0.4),
    "potsdam-3/iic-segmentation-lambda-1": (3, 24, 75, 1e-5, 1.0, 10, 200, 0.1),
    "coco-stuff-3/iic-segmentation-plus": (15, None, 180, 1e-4, 1.0, 10, 128, 0.4),
    "coco-stuff/iic-segmentation-plus": (45, None, 90, 1e-4, 1.0, 10, 128, 0.4),
    "potsdam-3/iic-segmentation-plus": (9, None, 75, 1e-5, 1.0, 10, 200, 0.1),
    "potsdam/iic-segmentation-plus": (24, None, 60, 1e-5, 1.0, 10, 200, 0.1),
}


@pytest.mark.parametrize(("name", "published"), SEGMENTATION.items(), ids=str)
def test_the_published_segmentation(name, published):
    k, over, batch, rate, lamb, most, size, jitter = published
    e = get(name)
    plus, coco = over is None, name.startswith("coco")
    settings = e.settings
    assert (e.clusters, settings.lamb, settings.over_lamb) == (k, lamb, 1.0)
    assert (e.training.batch_size, e.training.learning_rate) == (batch, rate)
    assert (settings.max_displacement, settings.sub_heads, settings.collapsed) == (most, 1, False)
    assert (settings.labelled_only, settings.mapping) == (
        coco,
        "majority" if plus else "one-to-one",
    )
    if plus:
        assert settings.passes == ("main",)
        assert (e.protocol.fit_split, e.test_split) == ("train", "test")
        assert "test" not in e.train_split
    else:
        assert settings.over_clusters == over
        both = ("main", "over") if name.endswith("lambda-1") else ("over", "main")
        assert settings.passes == both
        assert e.test_split == "train+test"
    views = e.views
    assert (views.size, views.flip, views.jitter) == (size, 0.5, 1.0)
    assert (views.brightness, views.contrast, views.saturation) == (jitter,) * 3
    assert views.hue == (0.125 if coco else 0.1)
    assert views.crop_sides == ((128,) if coco else ())
    net = make_backbone(e.backbone, in_channels=3 if coco else 4, size=size)
    assert net.frame
    assert net.out_features == 512
    parameters = sum(value.numel() for value in net.parameters())
    assert parameters == pytest.approx(4.5e6, rel=0.01)


def test_the_epochs_of_the_segmentation_are_those_of_the_logs():
    """Where a logged epoch is one head, two of them are an epoch here."""
    logged = {"coco-stuff-3": 108, "coco-stuff": 28, "potsdam-3": 27, "potsdam": 20}
    for images, passes in logged.items():
        assert get(f"{images}/iic-segmentation").training.epochs == -(-passes // 2)
        assert get(f"{images}/iic-segmentation-plus").training.epochs == passes
    for images, epochs in (("coco-stuff-3", 47), ("potsdam-3", 40)):
        assert get(f"{images}/iic-segmentation-lambda-1").training.epochs == epochs
