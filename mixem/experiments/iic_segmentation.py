"""IIC's segmentation: textures and brain slices for two CPU cores, and every published model.

Numbers such as 555 are the author's names of the runs in ``examples/commands.txt``.
"""

from dataclasses import replace

from mixem.clustering import KMeansProtocol
from mixem.data import Augmentation
from mixem.experiments.iic import constant
from mixem.experiments.settings import Experiment
from mixem.methods import IICSegmentationSettings
from mixem.training.config import TrainConfig

# --- Table 4 ------------------------------------------------------------------------------------

_SOURCES = {
    "name": "this book",
    "method": "the paper, segmentation",
    "images": "the paper, table 4; the lists of images are made anew, see mixem.data.coco_stuff",
    "train_split": "utils/segmentation/data.py",
    "test_split": "utils/segmentation/data.py: the images that were trained on, with labels",
    "backbone": "commands.txt: arch SegmentationNet10aTwoHead; in_channels 5 by Sobel filters",
    "clusters": "commands.txt: gt_k",
    "views": "commands.txt: input_sz, jitter_brightness and so on, flip_p",
    "settings": "commands.txt",
    "settings.over_clusters": "commands.txt: output_k_A",
    "settings.sub_heads": "commands.txt: num_sub_heads",
    "settings.passes": "the log: one head an epoch, and two of its epochs are one here",
    "settings.lamb": "commands.txt: lamb_B",
    "settings.over_lamb": "commands.txt: lamb_A",
    "settings.max_displacement": "commands.txt: half_T_side_dense",
    "settings.collapsed": "commands.txt: use_uncollapsed_loss",
    "settings.labelled_only": "datasets/segmentation: the mask of the loss is that of the labels",
    "settings.mapping": "cluster_eval.py: hung",
    "training": "commands.txt",
    "training.epochs": "length of the author's log",
    "training.weight_decay": "segmentation_twohead.py: Adam without",
    "training.constant_epochs": "commands.txt: no schedule",
    "training.schedule": "commands.txt: no schedule",
    "protocol": "not used",
    "protocol.fit_split": "this book: the yardsticks are fitted on the images that are scored",
    "start": "random, as the paper",
}
_COCO_3 = Experiment(  # 555
    name="coco-stuff-3/iic-segmentation",
    method="iic-segmentation",
    images="coco-stuff-3",
    train_split="train+test",
    test_split="train+test",
    backbone="segmentation-net10a-sobel",
    clusters=3,
    views=Augmentation(
        size=128,
        crop_sides=(128,),
        plain_side=128,
        flip=0.5,
        brightness=0.4,
        contrast=0.4,
        saturation=0.4,
        hue=0.125,
        jitter=1.0,
    ),
    settings=IICSegmentationSettings(over_clusters=15, lamb=1.5, labelled_only=True),
    training=constant(54, 120, 1e-4),
    protocol=KMeansProtocol(fit_split="train+test"),
    sources=_SOURCES,
)
_COCO = replace(  # 512
    _COCO_3,
    name="coco-stuff/iic-segmentation",
    images="coco-stuff",
    clusters=15,
    settings=replace(_COCO_3.settings, over_clusters=45, lamb=1.0),
    training=constant(14, 60, 1e-4),
)
_POTSDAM_3 = replace(  # 545
    _COCO_3,
    name="potsdam-3/iic-segmentation",
    images="potsdam-3",
    train_split="train+unlabeled+test",
    test_split="train+test",
    backbone="segmentation-net10a",
    clusters=3,
    views=Augmentation(
        size=200, flip=0.5, brightness=0.1, contrast=0.1, saturation=0.1, hue=0.1, jitter=1.0
    ),
    settings=IICSegmentationSettings(over_clusters=24, lamb=1.5),
    training=constant(14, 75, 1e-5),
    protocol=KMeansProtocol(fit_split="train+test"),
    sources={
        **_SOURCES,
        "images": "the paper, table 4; the tiles for tests are drawn anew, see mixem.data.potsdam",
        "backbone": "commands.txt: arch SegmentationNet10aTwoHead; in_channels 4, with infrared",
        "settings.labelled_only": "datasets/segmentation/potsdam.py: the mask is 1 everywhere",
        "training.epochs": "length of the author's log, 27 epochs of one head, and one more",
    },
)
_POTSDAM = replace(  # 544
    _POTSDAM_3,
    name="potsdam/iic-segmentation",
    images="potsdam",
    clusters=6,
    settings=replace(_POTSDAM_3.settings, over_clusters=36, lamb=1.0, max_displacement=5),
    training=constant(10, 60, 1e-6),
    sources={**_POTSDAM_3.sources, "training.epochs": _SOURCES["training.epochs"]},
)

# --- both heads in an epoch, lambda 1 -------------------------------------------------------------

_BOTH = {
    "settings.passes": "the log: both heads an epoch; commands.txt: head_B_first",
    "training.epochs": "length of the author's log",
}
_LAMBDA_1 = (
    replace(  # 714
        _COCO_3,
        name="coco-stuff-3/iic-segmentation-lambda-1",
        settings=replace(_COCO_3.settings, lamb=1.0, passes=("main", "over")),
        training=constant(47, 120, 1e-4),
        sources={**_COCO_3.sources, **_BOTH},
    ),
    replace(  # 711
        _POTSDAM_3,
        name="potsdam-3/iic-segmentation-lambda-1",
        settings=replace(_POTSDAM_3.settings, lamb=1.0, passes=("main", "over")),
        training=constant(40, 75, 1e-5),
        sources={**_POTSDAM_3.sources, **_BOTH},
    ),
)

# --- IIC+: overclustering with labels for the mapping only ----------------------------------------


def _plus(
    experiment: Experiment, *, train: str, fit: str, clusters: int, training: TrainConfig
) -> Experiment:
    """One head of many clusters, mapped by the labels of one split and scored on another."""
    return replace(
        experiment,
        name=f"{experiment.name}-plus",
        train_split=train,
        test_split="test",
        clusters=clusters,
        settings=replace(
            experiment.settings,
            passes=("main",),
            lamb=1.0,
            max_displacement=10,
            mapping="majority",
        ),
        training=training,
        protocol=KMeansProtocol(fit_split=fit),
        sources={
            **experiment.sources,
            "test_split": "utils/segmentation/data.py",
            "backbone": experiment.sources["backbone"].replace("TwoHead", ""),
            "clusters": "commands.txt: output_k",
            "settings.over_clusters": "not used, there is one head",
            "settings.over_lamb": "not used, there is one head",
            "settings.passes": "commands.txt: one head",
            "settings.lamb": "commands.txt: 1 unless said",
            "settings.mapping": "cluster_eval.py: orig",
            "training.epochs": "passes of the two heads together; no log is at hand",
            "protocol.fit_split": "IIC+: the labels that map clusters to classes",
        },
    )


_PLUS = (
    _plus(  # 496
        _COCO_3, train="train", fit="train", clusters=15, training=constant(108, 180, 1e-4)
    ),
    _plus(  # 521
        _COCO, train="train", fit="train", clusters=45, training=constant(28, 90, 1e-4)
    ),
    _plus(  # 482
        _POTSDAM_3,
        train="train+unlabeled",
        fit="train",
        clusters=9,
        training=constant(27, 75, 1e-5),
    ),
    _plus(  # 487
        _POTSDAM,
        train="train+unlabeled",
        fit="train",
        clusters=24,
        training=constant(20, 60, 1e-5),
    ),
)

# --- for two CPU cores --------------------------------------------------------------------------

_CHOSEN = "this book, chosen for two CPU cores by the accuracy of seeds 0 to 2"
_TEXTURES = Experiment(
    name="textures/iic-segmentation",
    method="iic-segmentation",
    images="textures",
    train_split="train",
    test_split="test",
    backbone="segmentation-net10a-8",
    clusters=4,
    views=Augmentation(size=64, flip=0.5, brightness=0.4, contrast=0.4, jitter=1.0),
    settings=IICSegmentationSettings(over_clusters=12, sub_heads=3, lamb=1.5, max_displacement=5),
    training=replace(
        constant(2, 8, 2e-3), constant_epochs=1, schedule="steps", snapshots=(0, 1, 2)
    ),
    protocol=KMeansProtocol(fit_split="train"),
    sources={
        "name": "this book",
        "method": "the paper, segmentation",
        "images": "this book, mixem.data.textures",
        "train_split": "this book: 500 scenes",
        "test_split": "this book: 200 other scenes",
        "backbone": "the paper's with an eighth of its channels, without the frame",
        "clusters": "the classes of the data",
        "views": "commands.txt of COCO-Stuff: jitter_brightness, jitter_contrast, flip_p; the "
        "scenes have no colours",
        "settings": "the paper",
        "settings.over_clusters": "this book: three times the classes, as COCO-Stuff",
        "settings.over_lamb": "the paper",
        "settings.sub_heads": "this book: of one, at times none is good; one in the paper",
        "settings.passes": "the paper; without the second head, at times a cluster is of borders",
        "settings.lamb": "commands.txt: lamb_B of COCO-Stuff-3 and Potsdam-3",
        "settings.max_displacement": "commands.txt: half_T_side_dense of Potsdam",
        "training": _CHOSEN,
        "training.weight_decay": "segmentation_twohead.py: Adam without",
        "protocol": "not used",
        "protocol.fit_split": "this book: the yardsticks are fitted on the training images",
        "start": "random, as the paper",
    },
)
_BRAIN = replace(
    _TEXTURES,
    name="brain/iic-segmentation",
    images="brain",
    train_split="train+test",
    test_split="train+test",
    clusters=3,
    views=replace(_TEXTURES.views, size=96),
    settings=replace(_TEXTURES.settings, over_clusters=15, max_displacement=1, labelled_only=True),
    training=replace(_TEXTURES.training, epochs=6, constant_epochs=3, snapshots=(0, 1, 2, 4, 6)),
    protocol=KMeansProtocol(fit_split="train+test"),
    sources={
        **_TEXTURES.sources,
        "images": "the MNI152 template in the package nilearn",
        "train_split": "this book: all slices",
        "test_split": "this book: all slices, as neighbours are alike",
        "views": "as textures/iic-segmentation",
        "settings.over_clusters": "commands.txt: output_k_A of COCO-Stuff-3",
        "settings.passes": "the paper",
        "settings.labelled_only": "this book: of the masks only that black is outside, or the "
        "clusters are inside and outside",
        "settings.max_displacement": "this book: tissues are a few pixels wide",
        "protocol.fit_split": "this book: all slices",
    },
)

EXPERIMENTS: tuple[Experiment, ...] = (
    _TEXTURES,
    _BRAIN,
    _COCO_3,
    _COCO,
    _POTSDAM_3,
    _POTSDAM,
    *_LAMBDA_1,
    *_PLUS,
)
