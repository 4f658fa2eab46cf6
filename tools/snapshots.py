"""What Figure 3 of IIC needs of a run with snapshots, in a file small enough to stay.

    python tools/snapshots.py RUN OUT.npz [--images 1000] [--data DATA]

RUN is the folder of a finished run whose experiment has ``training.snapshots``. The file holds
cluster probabilities (E, N, k) after E epochs, and N images of the run with their labels. A network
without running statistics sees these N images as one batch.
"""

import argparse
from pathlib import Path

import numpy as np
import torch

from mixem.data import load_images
from mixem.methods import extract
from mixem.runs import load_run


def main() -> None:
    """Write the file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--data", default="data")
    options = parser.parse_args()
    run = load_run(options.run)
    e = run.experiment
    found = load_images(e.images, split=e.test_split, root=options.data)
    some = torch.randperm(len(found), generator=torch.Generator().manual_seed(0))[: options.images]
    images = found.images[some]
    epochs = [n for n in e.training.snapshots if n < e.training.epochs]
    methods = [*map(run.at, epochs), run.method]
    tables = [extract(m, images, "assign", batch_size=len(images)) for m in methods]
    np.savez_compressed(
        options.out,
        epochs=np.array([*epochs, e.training.epochs]),
        probabilities=torch.stack(tables).half().numpy(),
        images=images.numpy(),
        labels=np.asarray(found.labels)[some.numpy()],
    )


if __name__ == "__main__":
    main()
