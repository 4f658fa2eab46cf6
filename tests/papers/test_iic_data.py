"""The numbers of IIC: as the authors' files give them, and in agreement with one another."""

import math
import statistics

import pytest

from mixem.papers import curve, load_paper, table, value

CLASSES = {"stl10": 10, "stl10-570": 10, "cifar10": 10, "cifar100-20": 20, "mnist": 10}
HEAD_A = {"stl10": 70, "stl10-570": 70, "cifar10": 70, "cifar100-20": 140, "mnist": 50}
ENDS = ("best-epoch", "last-epoch")


def means(key, column):
    return {row: number.mean for row, number in table("iic", key).column(column).items()}


def lowest(key, column):
    losses = means(key, column)
    return min(losses, key=losses.__getitem__)


@pytest.mark.parametrize(
    ("row", "column", "mean"),
    [
        ("iic-log-loss", "mnist/accuracy", 99.2314),
        ("iic-log-loss", "stl10-570/accuracy", 61.7615),
        ("sub-head-4", "cifar10/accuracy", 51.413),
        ("no-repeats", "stl10/accuracy-label-chosen", 52.3462),
        ("iic-finetune", "stl10/classification-accuracy", 88.8),
        ("last-epoch", "mnist/accuracy", 99.236),
        ("last-epoch", "potsdam/pixel-accuracy", 37.369),
        ("best-epoch", "cifar10/epoch", 861),
        ("10", "mnist/best-sub-head", 0.9913),
        ("388", "stl10/overclustering-loss", -3.5658),
    ],
)
def test_known_numbers(row, column, mean):
    assert value("iic", row, column).mean == mean


@pytest.mark.parametrize(
    ("column", "batches", "summed"),
    [
        ("stl10/loss", 93, [-181.22029626, -181.57871413, -182.01901901, -181.25954688, -182.422]),
        ("mnist/loss", 500, [-1083.10761285, -1082.42654419, -1083.15684843, -1082.418, -1082.53]),
    ],
)
def test_losses_are_the_authors_sums_over_batches(column, batches, summed):
    found = [batches * loss for loss in means("sub-heads-loss", column).values()]
    assert found == pytest.approx(summed, abs=1e-3)


@pytest.mark.parametrize("data", CLASSES)
def test_the_sub_head_with_the_lowest_loss_is_the_reported_one(data):
    chosen = lowest("sub-heads-loss", f"{data}/loss")
    accuracy = means("sub-heads-accuracy", f"{data}/accuracy")
    reported = value("iic", "iic-log-loss", f"{data}/accuracy").mean
    assert accuracy[chosen] == pytest.approx(reported, abs=6e-4)
    by_labels = value("iic", "iic-log-labels", f"{data}/accuracy").mean
    assert max(accuracy.values()) == pytest.approx(by_labels, abs=6e-4)
    assert by_labels == pytest.approx(value("iic", "best-epoch", f"{data}/accuracy").mean, abs=6e-4)


@pytest.mark.parametrize("data", ["stl10", "cifar10", "cifar100-20", "mnist"])
def test_the_printed_spread_is_over_the_sub_heads(data):
    accuracies = list(means("sub-heads-accuracy", f"{data}/accuracy").values())
    printed = value("iic", "iic-mean", f"{data}/accuracy")
    assert len(accuracies) == printed.n
    assert round(statistics.mean(accuracies), 1) == printed.mean
    assert float(f"{statistics.pstdev(accuracies):.3g}") == printed.std


def test_the_ablation_to_one_decimal():
    found = {row: round(mean, 1) for row, mean in means("table-2", "stl10/accuracy").items()}
    assert found == {
        "full": 59.6,
        "no-overclustering": 43.8,
        "one-sub-head": 57.6,
        "no-repeats": 47.0,
        "no-unlabelled": 49.9,
    }
    by_labels = means("table-2", "stl10/accuracy-label-chosen")
    assert all(by_labels[row] >= mean for row, mean in means("table-2", "stl10/accuracy").items())
    assert value("iic", "full", "stl10/accuracy").mean == (
        value("iic", "iic-log-loss", "stl10/accuracy").mean
    )


def test_the_ablations_losses():
    settings = [row.key for row in table("iic", "table-2").rows]
    assert table("iic", "table-2-loss").columns == tuple(f"stl10-{key}/loss" for key in settings)
    # As the authors' script prints them.
    assert {key: lowest("table-2-loss", f"stl10-{key}/loss") for key in settings} == {
        "full": "sub-head-4",
        "no-overclustering": "sub-head-1",
        "one-sub-head": "sub-head-0",
        "no-repeats": "sub-head-4",
        "no-unlabelled": "sub-head-4",
    }
    # The same checkpoint twice, on other random transforms.
    assert means("table-2-loss", "stl10-full/loss") == pytest.approx(
        means("sub-heads-loss", "stl10/loss"), abs=0.02
    )


def test_no_loss_below_its_bound():
    for column in table("iic", "sub-heads-loss").columns:
        bound = -math.log(CLASSES[column.split("/")[0]])
        assert all(bound < loss < 0 for loss in means("sub-heads-loss", column).values())
    for column in table("iic", "table-2-loss").columns:
        assert all(-math.log(10) < loss < 0 for loss in means("table-2-loss", column).values())
    for data in CLASSES:
        for name, k in (("loss", CLASSES[data]), ("overclustering-loss", HEAD_A[data])):
            _, losses = curve("iic", f"curve-{data}-loss", f"{data}/{name}")
            assert all(-math.log(k) < loss < 0 for loss in losses)


def test_on_mnist_the_second_head_was_the_first():
    """It begins where the first one ends, and its loss keeps the bound of ten clusters."""
    _, (main, *_) = curve("iic", "curve-mnist-loss", "mnist/loss")
    begins = means("first-batches", "mnist/loss")
    assert begins["second-head"] < main < -1 < begins["first-head"]
    for data in ("stl10", "stl10-570", "cifar10"):
        assert all(-0.01 < loss < 0 for loss in means("first-batches", f"{data}/loss").values())
    _, logged = curve("iic", "curve-mnist-loss", "mnist/overclustering-loss")
    assert -math.log(10) < begins["lowest-a"] < min(logged)
    _, colours = curve("iic", "curve-cifar10-loss", "cifar10/overclustering-loss")
    assert min(colours) < -math.log(10)


@pytest.mark.parametrize("data", CLASSES)
def test_curves_agree_with_the_tables(data):
    epochs, best = curve("iic", f"curve-{data}", f"{data}/best-sub-head")
    again, average = curve("iic", f"curve-{data}", f"{data}/mean-of-sub-heads")
    loss_epochs, _ = curve("iic", f"curve-{data}-loss", f"{data}/loss")
    assert epochs == again == (0, *loss_epochs)
    assert list(epochs) == sorted(set(epochs))
    assert 20 <= len(epochs) <= 60
    assert all(1 / CLASSES[data] <= a <= b <= 1 for a, b in zip(average, best, strict=True))
    reported = {key: int(value("iic", key, f"{data}/epoch").mean) for key in ENDS}
    assert epochs[-1] == reported["last-epoch"]
    for key, epoch in reported.items():
        accuracy = value("iic", key, f"{data}/accuracy").mean
        assert 100 * best[epochs.index(epoch)] == pytest.approx(accuracy, abs=6e-3)
    assert max(best) == best[epochs.index(reported["best-epoch"])]
    accuracies = means("sub-heads-accuracy", f"{data}/accuracy").values()
    at_best = 100 * average[epochs.index(reported["best-epoch"])]
    assert at_best == pytest.approx(statistics.mean(accuracies), abs=6e-3)


@pytest.mark.parametrize("data", ["stl10", "cifar10", "cifar100-20", "mnist"])
def test_curves_reach_each_accuracy_when_the_table_says(data):
    points = list(zip(*curve("iic", f"curve-{data}", f"{data}/best-sub-head"), strict=True))
    found = {k: v for k, v in means("epochs", f"{data}/epoch").items() if k not in ENDS}
    assert found
    for key, first in found.items():
        threshold = float(key.removeprefix("reaches-")) / 100
        assert all(accuracy < threshold for epoch, accuracy in points if epoch < first), key
        assert any(accuracy >= threshold for epoch, accuracy in points if epoch >= first), key


def test_each_table_of_logs_names_its_models():
    models = {"stl10": 569, "stl10-570": 570, "cifar10": 640, "cifar100-20": 579, "mnist": 685}
    for t in load_paper("iic").tables:
        for column in t.columns:
            data = column.split("/")[0]
            sources = {number.source for number in t.column(column).values()}
            if not t.key.startswith("table-") and data in models:
                assert all(str(models[data]) in source for source in sources), (t.key, column)
