"""Which way of sorting features is best in the worst case: a table of the records.

    python benchmarks/recipes.py > results/recipes.md

Each recipe needs no label. Which of them sorts folders was chosen with the labels of these sets.
"""

from collections.abc import Iterable
from statistics import mean

from mixem.data.images import network_of
from mixem.records import Record, Table, load_records

RECIPES = {
    "IIC, the best head": ("pretrained/iic", "argmax p"),
    "IIC, all heads agree": ("pretrained/iic", "consensus"),
    "SCAN, entropy weight 5, the best head": ("pretrained/scan", "argmax p"),
    "SCAN, entropy weight 5, all heads agree": ("pretrained/scan", "consensus"),
    "SCAN, entropy weight 1, the best three agree": ("pretrained/scan-sort", "argmax p"),
    "SCAN, entropy weight 1, all heads agree": ("pretrained/scan-sort", "consensus"),
}
TEXT = """# Which recipe sorts folders

Made by `python benchmarks/recipes.py` from the records beside this file. Every recipe trains 20
linear heads on features of EfficientNet-Lite0 at 192 pixels, or of Lite2 at 224, whose weights
have seen ImageNet's labels; STL-10's pictures come from ImageNet. Within a run nothing looks at a
label. But the recipe of `mixem sort`, `pretrained/scan-sort`, was chosen by a look at the labels of
CIFAR-10, STL-10 and the clothing, on Lite0. Of CIFAR-100 and Fashion-MNIST it is the test images.

Accuracy, the mean over the seeds; in brackets how many. The better k-means is that of the features
as they came or prepared, whichever the labels prefer. The last column is the least distance to it.
"""


def seen(records: Iterable[Record], name: str, images: str, kind: str) -> list[float]:
    """Accuracies of the first row of a kind in each record."""
    found = []
    for record in records:
        if (record.experiment, record.data.name) == (name, images):
            rows = [row for row in record.protocols if row.kind == kind and row.scores]
            found += [row.scores["accuracy"] for row in rows[:1] if row.scores]
    return found


def table(records: list[Record], network: str) -> Table:
    """A row a recipe, a column a set, all of one network's features."""
    own = [
        record
        for record in records
        if record.experiment.startswith("pretrained/")
        and network_of(record.data.name)[1] == network
    ]
    sets = sorted({r.data.name for r in own if r.experiment == "pretrained/kmeans"})
    yardstick = {
        images: max(
            row.scores["accuracy"]
            for record in own
            if (record.experiment, record.data.name) == ("pretrained/kmeans", images)
            for row in record.protocols
            if row.kind == "k-means" and row.scores
        )
        for images in sets
    }
    cells = [("the better k-means", *(f"{yardstick[images]:.3f}" for images in sets), "")]
    for recipe, (name, kind) in RECIPES.items():
        values = {images: seen(own, name, images, kind) for images in sets}
        margins = [mean(found) - yardstick[images] for images, found in values.items() if found]
        shown = (f"{mean(v):.3f} ({len(v)})" if v else "–" for v in values.values())
        cells.append((recipe, *shown, f"{min(margins):+.3f}" if margins else "–"))
    heads = [network_of(images)[0] for images in sets]
    return Table(("recipe", *heads, "worst"), tuple(cells))


if __name__ == "__main__":
    print(TEXT)
    found = load_records()
    for network in sorted({network_of(record.data.name)[1] for record in found} - {""}):
        print(f"## {network}\n\n{table(found, network).markdown()}\n")
