"""Features first: every method as heads on the features of a network that somebody pretrained.

The pictures go through EfficientNet-Lite0 once. Its weights have seen ImageNet's labels; nothing
after that sees a label. A view of a picture is one of its nearest neighbours.
"""

from dataclasses import replace

from mixem.clustering import KMeansProtocol
from mixem.data import Augmentation
from mixem.experiments.settings import Experiment, all_from
from mixem.methods import (
    IICSettings,
    IMCSwAVSettings,
    MethodSettings,
    MixEMSettings,
    SCANSettings,
    SelfLabelSettings,
    TEMISettings,
)
from mixem.training.config import TrainConfig

_SOURCES = all_from("this book")
_HEADS = TrainConfig(
    epochs=10, batch_size=512, learning_rate=2e-2, weight_decay=0.0, constant_epochs=0,
    schedule="steps", least_steps=150,
)  # fmt: skip

_KMEANS = Experiment(
    name="pretrained/kmeans",
    method="kmeans",
    images="cifar10@efficientnet-lite0",
    train_split="train+test",
    test_split="train+test",
    backbone="vectors",
    clusters=10,
    views=Augmentation(size=1),
    settings=MethodSettings(),
    training=replace(_HEADS, epochs=0, least_steps=0),
    protocol=KMeansProtocol(fit_split="train+test", n_init=3, max_iter=300),
    sources=_SOURCES,
)
_IIC = replace(
    _KMEANS,
    name="pretrained/iic",
    method="iic",
    settings=IICSettings(
        neighbours=20, sub_heads=20, repeats=1, passes=("main",), head_start="k-means"
    ),
    training=_HEADS,
    protocol=replace(_KMEANS.protocol, n_init=1),
)
_SCAN = replace(
    _IIC,
    name="pretrained/scan",
    method="scan",
    settings=SCANSettings(heads=20, head_start="k-means"),
    sources={**_SOURCES, "settings.entropy_weight": "configs/scan"},
)
# What sorts a folder: the one that is best in the worst case, see results/recipes.md.
_SORT = replace(
    _SCAN,
    name="pretrained/scan-sort",
    settings=replace(_SCAN.settings, neighbours=50, entropy_weight=1.0, agreeing=3),
    sources=_SOURCES,
)
_SELF_LABEL = replace(
    _IIC,
    name="pretrained/scan-self-label",
    method="self-label",
    settings=SelfLabelSettings(neighbours=20),
    training=replace(_HEADS, learning_rate=1e-3),
    start="pretrained/scan",
)
_MIXEM = replace(
    _IIC,
    name="pretrained/mixem",
    method="mixem",
    settings=MixEMSettings(neighbours=20),
    training=replace(_HEADS, learning_rate=1e-3),
)
_IMC_SWAV = replace(
    _IIC,
    name="pretrained/imc-swav",
    method="imc-swav",
    settings=IMCSwAVSettings(neighbours=20, small=0, prototypes=300),
    training=replace(_HEADS, learning_rate=1e-3),
)
_TEMI = replace(
    _IIC,
    name="pretrained/temi",
    method="temi",
    # The official heads are (512, 256) and their teacher keeps 0.996, for trainings ten times as
    # long; in 500 steps they sorted STL-10 to 0.41, these to 0.81.
    settings=TEMISettings(hidden=(64, 32), teacher_momentum=0.98),
    training=replace(
        _HEADS, optimiser="adamw", learning_rate=1e-3, weight_decay=1e-4, least_steps=2000
    ),
)

EXPERIMENTS: tuple[Experiment, ...] = (
    _KMEANS, _IIC, _SCAN, _SORT, _SELF_LABEL, _MIXEM, _IMC_SWAV, _TEMI,
)  # fmt: skip
