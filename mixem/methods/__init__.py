"""One paper, one file: settings, views, loss terms, start, and the ways of sorting images.

To add a method, write its file and put its class into ``METHODS``; a page of the book,
"Adding a method", goes through it.
"""

from mixem.methods.autoencoder import AutoEncoder, AutoEncoderSettings
from mixem.methods.base import Clustering, Maps, Method, MethodSettings, Step, extract
from mixem.methods.finetune import Finetune, FinetuneSettings
from mixem.methods.iic import IIC, IICSettings
from mixem.methods.iic_segmentation import IICSegmentation, IICSegmentationSettings, PixelViews
from mixem.methods.imc_swav import IMCSwAV, IMCSwAVSettings
from mixem.methods.kmeans import KMeans
from mixem.methods.mixem import MixEM, MixEMSettings
from mixem.methods.scan import SCAN, SCANSettings, SelfLabel, SelfLabelSettings
from mixem.methods.simclr import SimCLR, SimCLRSettings
from mixem.methods.spectral import Spectral, SpectralSettings
from mixem.methods.temi import TEMI, TEMISettings

__all__ = [
    "IIC",
    "METHODS",
    "SCAN",
    "TEMI",
    "AutoEncoder",
    "AutoEncoderSettings",
    "Clustering",
    "Finetune",
    "FinetuneSettings",
    "IICSegmentation",
    "IICSegmentationSettings",
    "IICSettings",
    "IMCSwAV",
    "IMCSwAVSettings",
    "KMeans",
    "Maps",
    "Method",
    "MethodSettings",
    "MixEM",
    "MixEMSettings",
    "PixelViews",
    "SCANSettings",
    "SelfLabel",
    "SelfLabelSettings",
    "SimCLR",
    "SimCLRSettings",
    "Spectral",
    "SpectralSettings",
    "Step",
    "TEMISettings",
    "extract",
]

METHODS: dict[str, type[Method]] = {
    "simclr": SimCLR,
    "mixem": MixEM,
    "iic": IIC,
    "iic-segmentation": IICSegmentation,
    "imc-swav": IMCSwAV,
    "finetune": Finetune,
    "scan": SCAN,
    "self-label": SelfLabel,
    "kmeans": KMeans,
    "temi": TEMI,
    "spectral": Spectral,
    "auto-encoder": AutoEncoder,
}
