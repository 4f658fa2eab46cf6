"""IIC's segmentation: textures and brain slices for two CPU cores, and every published model.

Numbers such as 555 are the author's names of the runs in ``examples/commands.txt``.
"""


from mixem.clustering import KMeansProtocol
from mixem.data import Augmentation
from mixem.experiments.settings import Experiment
from mixem.methods import IICSegmentationSettings
from mixem.training.config import TrainConfig

_OURS = {
    "name": "this book",
    "method": "the paper, segmentation",
    "images": "this book, mixem.data.textures",
    "train_split": "this book: 500 scenes",
    "test_split": "this book: 200 other scenes",
    "backbone": "the paper's with an eighth of its channels, without the frame",
    "clusters": "the classes of the data",
    "views": "this book: brightness and contrast as COCO-Stuff in commands.txt; no colours here",
    "views.flip": "the paper: mirrored with probability 0.5",
    "settings": "the paper",
    "settings.over_clusters": "not used, there is one head",
    "settings.sub_heads": "this book: one in the paper; of one, at times none is good",
    "settings.passes": "this book: one head",
    "settings.lamb": "commands.txt: lamb_B of COCO-Stuff-3 and Potsdam-3; with 1 the clusters "
    "stay too few",
    "settings.max_displacement": "commands.txt of Potsdam: half_T_side_dense",
    "training": "this book, chosen for two CPU cores by the accuracy of seed 0",
    "protocol": "not used",
    "protocol.fit_split": "this book: the yardsticks are fitted on the training images",
    "start": "random, as the paper",
}

_TEXTURES = Experiment(
    name="textures/iic-segmentation",
    method="iic-segmentation",
    images="textures",
    train_split="train",
    test_split="test",
    backbone="segmentation-net10a-8",
    clusters=4,
    views=Augmentation(size=64, flip=0.5, brightness=0.4, contrast=0.4, jitter=1.0),
    settings=IICSegmentationSettings(sub_heads=3, passes=("main",), lamb=1.5, max_displacement=5),
    training=TrainConfig(
        epochs=4,
        batch_size=8,
        learning_rate=2e-3,
        weight_decay=0.0,
        constant_epochs=4,
        snapshots=(0, 1, 2, 3, 4),
    ),
    protocol=KMeansProtocol(fit_split="train"),
    sources=_OURS,
)

EXPERIMENTS: tuple[Experiment, ...] = (_TEXTURES,)
