"""Run all chapters in the profile ``paper`` with tiny settings, and build that book.

    python tools/dry_run.py OUT [CHAPTER ...]

Takes minutes instead of hours, needs no download, and shows that nothing but time stands between
``make reproduce`` and its book. Enlarged digits stand in for MNIST and CIFAR-10, small networks for
large ones, a few epochs for hundreds. Nothing it makes is a result: runs and pages stay in OUT.
"""

import argparse
import os
import sys
from pathlib import Path

import build_book
from run_chapter import ChapterError, run

ROOT = Path(__file__).resolve().parents[1]

# Put before everything else in each chapter's kernel. Python runs a file of this name at its start.
SITE = """
import dataclasses

import mixem.data.images as images
from mixem.data.sources import SOURCES, read_source
from mixem.data.images import _converted
from mixem.experiments import EXPERIMENTS

SMALL = {
    "resnet18-cifar": "small-resnet18",
    "clusternet6c-batch": "clusternet6c-16-batch",
    "clusternet6c": "clusternet6c-16",
    "clusternet5g-batch": "clusternet6c-16-batch",
}


def digits(name, *, split, root, download):
    if name not in ("mnist", "cifar10"):
        return read_source(name, split=split, root=root, download=download)
    pixels, labels, _ = read_source("digits", split=split, root=None, download=False)
    source = SOURCES[name]
    if source.channels == 3:
        pixels = pixels.repeat(1, 3, 1, 1)
    classes = tuple(map(str, range(10))) if name == "mnist" else images_classes
    return _converted(pixels, source.side, None), labels, classes


from mixem.data.sources import CIFAR10_CLASSES as images_classes

images.read_source = digits
for name, e in list(EXPERIMENTS.items()):
    if e.images in ("mnist", "cifar10"):
        training = dataclasses.replace(
            e.training, epochs=5, constant_epochs=min(5, e.training.constant_epochs),
            batch_size=min(200, e.training.batch_size), warmup_steps=0, snapshots=(0, 1, 2, 5),
        )
        EXPERIMENTS[name] = dataclasses.replace(
            e, training=training, backbone=SMALL.get(e.backbone, e.backbone),
            protocol=dataclasses.replace(e.protocol, n_init=2),
        )
"""


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("chapters", nargs="*", type=Path, help="by default all")
    parser.add_argument("--no-book", action="store_true", help="run the chapters only")
    options = parser.parse_args()
    out = options.out.resolve()
    site = out / "site"
    site.mkdir(parents=True, exist_ok=True)
    (site / "sitecustomize.py").write_text(SITE, encoding="utf-8")
    path = [str(site), str(ROOT), os.environ.get("PYTHONPATH", "")]
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, path))
    os.environ["MIXEM_RUNS"] = str(out / "runs")
    failed = 0
    for chapter in options.chapters or sorted((ROOT / "chapters").glob("*.ipynb")):
        try:
            run(chapter.resolve(), out / "chapters" / chapter.name, profile="paper", still=None)
            print(f"{chapter.name}: run", flush=True)
        except ChapterError as error:
            print(f"{chapter.name} {error}", file=sys.stderr, flush=True)
            failed += 1
    if not options.no_book:
        html = build_book.build(out / "chapters", out, partly=True)
        print(f"The book: {html / 'index.html'}; {failed} chapters failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
