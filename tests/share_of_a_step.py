"""One step of every method; run by test_distributed.py in one process and in several.

python -m torch.distributed.run --nproc-per-node 2 tests/share_of_a_step.py FILE [DEVICE]

test_cuda.py compares a GPU with the CPU by the same steps.
"""

import dataclasses
import sys

import torch

from mixem.data import Augmentation, load_images
from mixem.distributed import disconnect, leads, rank, size, together, total
from mixem.methods import (
    IIC,
    Finetune,
    IICSegmentation,
    IICSegmentationSettings,
    IICSettings,
    IMCSwAV,
    MixEM,
    SimCLR,
)
from mixem.models import ClusterNet6c, SegmentationNet10a, SmallNet
from mixem.training.step import parallel, seeded

IMAGES = 24
VIEWS = Augmentation(
    size=8, crop_scale=(0.5, 1), flip=0.5, degrees=10, brightness=0.3, contrast=0.3, cutout=0.5
)
CPU = torch.device("cpu")


def small(kind, **settings):
    return kind(SmallNet(1, width=2, size=8), VIEWS, kind.Settings(**settings))


def iic():
    net = ClusterNet6c(1, size=8, width=2, running_statistics=False)
    plain = dataclasses.replace(VIEWS, crop_scale=None, crop_sides=(6, 8), flip=0, degrees=0)
    return IIC(net, VIEWS, IICSettings(plain_views=plain, repeats=2, sub_heads=3, lamb=1.5))


def segmentation(**options):
    views = Augmentation(size=6, crop_sides=(6,), flip=0.5, degrees=10, brightness=0.3)
    settings = IICSegmentationSettings(max_displacement=1, sub_heads=2, over_clusters=5, **options)
    return IICSegmentation(SegmentationNet10a(1, width=2, frame=False), views, settings, clusters=3)


def imc(**options):
    few = {"prototypes": 12, "hidden": 8, "embedding_size": 4, "small": 2, "frozen_steps": 1}
    views = dataclasses.replace(VIEWS, crop_scale=(0.2, 0.5))
    return small(IMCSwAV, small_views=views, **few, **options)


# Name, how to make it, which pass, whether labels are given, how many steps are done before.
CASES = [
    ("simclr", lambda: small(SimCLR), "images", False, 0),
    ("mixem", lambda: small(MixEM, components=3), "images", False, 0),
    ("mixem, entropy", lambda: small(MixEM, confidence="entropy"), "images", False, 0),
    ("iic, main", iic, "main", False, 0),
    ("iic, over", iic, "over", False, 0),
    ("imc-swav, frozen", imc, "images", False, 0),
    ("imc-swav", imc, "images", False, 1),
    ("imc-swav, one pass", lambda: imc(one_pass=True), "images", False, 1),
    ("imc-swav, bank", lambda: imc(bank=True), "images", True, 1),
    ("iic-segmentation, main", segmentation, "main", False, 0),
    ("iic-segmentation, over", lambda: segmentation(labelled_only=True), "over", True, 0),
    ("finetune", lambda: small(Finetune, hidden=4), "images", True, 0),
]


def wide(views, device=CPU):
    """Views in float64, on the device; whole numbers stay."""
    if views is None:
        return None
    if isinstance(views, torch.Tensor):
        return views.to(device, torch.float64) if views.is_floating_point() else views.to(device)
    parts = [wide(v, device) for v in views]
    return type(views)(*parts) if hasattr(views, "_fields") else parts


def step(make, name, labelled, done, device=CPU):
    """Loss, gradients by parameter, and buffers, of a step on this process's share."""
    torch.manual_seed(0)
    method = make().double().train()  # the weights of every device are drawn on the CPU
    method.to(device)
    images = load_images("digits", split="train+test")
    with together(CPU):
        pixels = images.images[rank() : IMAGES : size()]
        labels = images.labels[rank() : IMAGES : size()] if labelled else None
        if labelled and method.sorts == "pixels":
            labels = torch.where(pixels[:, 0] > 100, 255, 0).to(torch.uint8)
        if labelled and isinstance(method, IMCSwAV):
            # A bank that is one image short of being full, in every process the same.
            labels = labels > 3
            kept = torch.rand(4, IMAGES, method.feature_size, generator=seeded(0, "bank", 0))
            kept = kept.double().to(device)
            method.banked.append((kept, method.compare(kept).detach()))
        method.before_step(done)
        network = parallel(method)
        views = wide(method.draw_views(pixels, seeded(0, "views", 3)), device)
        if labels is not None and not method.labels_on_host:
            labels = labels.to(device)
        terms = network(views, name, labels).terms
        sum(terms.values()).backward()
        loss = {name: total(value.detach()) / size() for name, value in terms.items()}
    gradients = {name: p.grad for name, p in method.named_parameters() if p.grad is not None}
    return {"loss": loss, "gradients": gradients, "buffers": dict(method.named_buffers())}


def main():
    """Write what every case gives, from the first process."""
    device = torch.device(sys.argv[2]) if len(sys.argv) > 2 else CPU
    found = {title: step(*case, device) for title, *case in CASES}
    if leads():
        torch.save(found, sys.argv[1])
    disconnect()


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
