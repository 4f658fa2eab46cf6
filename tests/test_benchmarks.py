"""The benchmarks compare like with like, take turns, and write what they find."""

import dataclasses
import functools
import importlib
import itertools
import math
import sys
from pathlib import Path

import pytest
import torch
from torchvision.transforms.v2 import functional as tvf

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
NAMES = [path.stem for path in BENCHMARKS.glob("*.py")]
SMALL = {"images": 8, "prototypes": 5}


@pytest.fixture
def module(monkeypatch):
    """Imports a script as a module, and leaves nothing of it behind."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    for name in NAMES:
        monkeypatch.delitem(sys.modules, name, raising=False)
    yield importlib.import_module
    for name in NAMES:
        sys.modules.pop(name, None)


@pytest.fixture
def losses(module):
    return module("losses")


# Taking turns ------------------------------------------------------------------------------------


def test_all_take_turns_after_a_warm_up(module):
    calls = []
    runs = {name: lambda name=name: calls.append(name) for name in "ab"}
    found = module("timing").in_turns(runs, device="cpu", rounds=3)
    assert "".join(calls) == "aabb" + "ab" * 3
    assert {name: len(times) for name, times in found.items()} == {"a": 3, "b": 3}
    assert min(itertools.chain(*found.values())) > 0


def test_short_runs_are_repeated(module):
    calls = []
    runs = {"a": lambda: calls.append("a")}
    module("timing").in_turns(runs, device="cpu", rounds=1, seconds=0.001)
    assert len(calls) > 10


def test_a_row_has_the_ratios_of_the_rounds(module):
    timing = module("timing")
    times = {"ours": [1.0, 2.0, 4.0], "theirs": [2.0, 6.0, 4.0]}
    row = timing.row("what", times, "ours", "theirs", goal=2.0)
    assert row.ours == (2, 1, 4)
    assert row.theirs == (4, 2, 6)
    assert row.ratio == (2, 1, 3)
    assert row.met
    assert not row._replace(goal=2.1).met
    assert row._replace(goal=None).met


def test_shares_name_the_operations(module):
    x = torch.rand(200, 200)
    text = module("timing").shares(lambda: x @ x, "cpu", count=2)
    assert text.startswith("`aten::mm` ")


# Losses ------------------------------------------------------------------------------------------


def test_the_plain_implementations_are_equal_to_ours(losses):
    losses.check(losses.iic_ways(10, "cpu"))
    losses.check(losses.infomax_ways("cpu", **SMALL))


def test_lightly_is_equal_to_ours(losses):
    pytest.importorskip("lightly")
    losses.check(losses.nt_xent_ways(8, 4, "cpu"))
    losses.check(losses.sinkhorn_ways(8, 5, "cpu"))
    losses.check(losses.swapped_ways("cpu", **SMALL))


@pytest.mark.parametrize(
    ("wrong", "same"),
    [
        (lambda leaves: 2 * leaves[0].sum(), False),
        (lambda leaves: leaves[0].sum(), True),
        (lambda leaves: leaves[0].sum().detach() + 0 * leaves[0].sum(), False),
    ],
    ids=["value", "same", "gradient"],
)
def test_a_different_value_or_gradient_is_noticed(losses, wrong, same):
    ways = [
        losses.Way(name, loss, [torch.ones(3, requires_grad=True)])
        for name, loss in (("ours", lambda leaves: leaves[0].sum()), ("theirs", wrong))
    ]
    if same:
        losses.check(ways)
    else:
        with pytest.raises(AssertionError, match="theirs gives something else"):
            losses.check(ways)


def test_the_first_way_is_compared_with_each_of_the_others(losses):
    ways = losses.iic_ways(10, "cpu")
    rows = list(losses.compare("IIC", ways, 3.0, device="cpu", rounds=2, seconds=0))
    assert [row.against for row in rows] == [way.name for way in ways[1:]]
    assert [row.goal for row in rows] == [3.0, None]
    for row in rows:
        assert 0 < row.ours.least <= row.ours.median <= row.ours.greatest
    assert "aten::" in rows[0].why()


# Augmentation ------------------------------------------------------------------------------------


@pytest.mark.parametrize("pil", [False, True])
def test_torchvision_draws_the_same_recipe(module, pil):
    """What has no choice left is the same on both sides."""
    augment = module("augment")
    images = torch.randint(256, (4, 3, 20, 20), dtype=torch.uint8)
    certain = dataclasses.replace(
        augment.RECIPE, crop_scale=(1.0, 1.0), crop_ratio=(1.0, 1.0), flip=1.0, jitter=0.0, grey=1.0
    )
    ours = certain(images, torch.Generator().manual_seed(0))
    theirs = augment.Views(images, certain, pil=pil, views=2)
    both = torch.stack([theirs[i] for i in range(4)])
    assert both.shape == (4, 2, 3, 32, 32)
    # Theirs is rounded to 256 levels after each operation.
    torch.testing.assert_close(both[:, 0], ours, atol=2.5 / 255, rtol=0)
    expected = tvf.rgb_to_grayscale(tvf.horizontal_flip(images), num_output_channels=3)
    plain = tvf.resize(expected, [32, 32], antialias=True) / 255
    torch.testing.assert_close(both[:, 1], plain, atol=2.5 / 255, rtol=0)


def test_kornia_draws_the_same_recipe(module):
    pytest.importorskip("kornia")
    augment = module("augment")
    images = torch.randint(256, (4, 3, 32, 32), dtype=torch.uint8)
    certain = dataclasses.replace(
        augment.RECIPE, crop_scale=(1.0, 1.0), crop_ratio=(1.0, 1.0), flip=1.0, jitter=0.0, grey=1.0
    )
    ours = certain(images, torch.Generator().manual_seed(0))
    theirs = augment.kornia_views(certain)(images)
    torch.testing.assert_close(theirs, ours, atol=1e-3, rtol=0)


def test_rows_of_the_augmentation(module, monkeypatch):
    augment = module("augment")
    monkeypatch.setattr(augment, "kornia_views", lambda recipe: lambda images: images.float())
    monkeypatch.setattr(augment, "WORKERS", 0)
    monkeypatch.setattr(
        augment, "loader", lambda data, size: torch.utils.data.DataLoader(data, size)
    )
    rows = augment.rows("cpu", batch_size=2, batches=2, rounds=1)
    assert len(rows) == 6
    assert [row.goal for row in rows] == [10.0, None, 3.5, 20.0, None, 7.0]
    assert {row.what.split(", ")[1] for row in rows} == {
        "torchvision's arithmetic",
        "`linear_colour`",
    }
    assert "hue " in rows[0].why()
    assert "drawing " in rows[0].why()


# Steps -------------------------------------------------------------------------------------------


def test_a_step_of_ours_and_the_usual_one_train_the_same_network(module):
    pytest.importorskip("lightly")
    steps = module("steps")
    ours, theirs = (steps.network("small-resnet", "cpu") for _ in range(2))
    before = [parameter.clone() for parameter in theirs.parameters()]
    for one, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert torch.equal(one, other)
    images = torch.randint(256, (8, 3, 32, 32), dtype=torch.uint8)
    first = steps.our_step(ours, "cpu")(images)
    second = steps.usual_step(theirs)(torch.rand(8, 2, 3, 32, 32))
    assert first.isfinite()
    assert second.isfinite()
    for net in (ours, theirs):
        changed = zip(net.parameters(), before, strict=True)
        assert any(not torch.equal(after, old) for after, old in changed)


def test_the_share_of_the_peak(module, monkeypatch):
    steps = module("steps")
    monkeypatch.setattr(
        steps, "get", lambda name: importlib.import_module("mixem.experiments").get("digits/simclr")
    )
    (row,) = steps.resnet18("cpu", batch_size=8, rounds=1, steps=1)
    assert row.what == "ResNet-18 step, forward and backward, batch 8"
    assert row.ratio.median == pytest.approx(row.theirs.median / row.ours.median)
    # Without bfloat16 instructions its product is slower than any network.
    native = torch.ops.mkldnn._is_mkldnn_bf16_supported()
    assert 0 < row.ratio.median < (1 if native else math.inf)
    assert row.goal == 0.8


def test_seconds_an_epoch_beside_the_goal(module, monkeypatch):
    steps = module("steps")
    monkeypatch.setattr(steps, "EPOCH_GOALS", {"digits/simclr": 2.0})
    monkeypatch.setattr(steps, "profile", functools.partial(steps.profile, steps=1))
    (row,) = steps.epochs("cpu", rounds=1)
    assert row.what == "an epoch of `digits/simclr`"
    assert row.theirs.median == 2000
    assert row.ratio.median == pytest.approx(2000 / row.ours.median)
    assert row.goal == 1
    assert "forward" in row.why()


# Methods -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["MIX'EM", "IIC", "IMC-SwAV"])
def test_the_published_way_has_the_same_loss_and_gradients(module, name):
    methods = module("methods")
    images = torch.randint(256, (12, 3, 32, 32), dtype=torch.uint8)
    ours, theirs = (methods.made(name).double() for _ in range(2))
    generator = torch.Generator().manual_seed(0)
    views = ours.draw_views(images, generator)
    if name == "IIC":  # (1 + r, B, ...): the plain one and the others
        views = views.double()
        cut = [views[:1].transpose(0, 1), views[1:].transpose(0, 1)]
    elif name == "IMC-SwAV":
        views = [group.double() for group in views]
        cut = [group.transpose(0, 1) for group in views]
    else:
        views = views.double()
        cut = [views.transpose(0, 1)]
    for one in (ours, theirs):
        one.before_step(methods.LATE)
    one_pass = "main" if name == "IIC" else "images"
    loss = sum(ours.step(views, one_pass).terms.values())
    other = methods.LOSSES[name](theirs, cut)
    loss.backward()
    other.backward()
    torch.testing.assert_close(other, loss, rtol=1e-6, atol=1e-7)
    pairs = [
        (a.grad, b.grad)
        for a, b in zip(ours.parameters(), theirs.parameters(), strict=True)
        if a.grad is not None
    ]
    flat = [torch.cat([g.flatten() for g in side]) for side in zip(*pairs, strict=True)]
    assert ((flat[0] - flat[1]).norm() / flat[0].norm()).item() < 1e-5


def test_a_step_of_each_method_beside_the_published_way(module, monkeypatch):
    methods = module("methods")
    monkeypatch.setattr(
        methods, "loader", lambda data, size: torch.utils.data.DataLoader(data, size)
    )
    row = methods.compare("MIX'EM", "cpu", batch_size=4, batches=1, rounds=1)
    assert row.what == "MIX'EM step, small ResNet, batch 4"
    assert row.goal == 4.0
    assert row.ratio.median == pytest.approx(row.theirs.median / row.ours.median)
    crops = methods.pictures("IMC-SwAV", torch.zeros(2, 3, 32, 32, dtype=torch.uint8))[1]
    assert [tuple(group.shape) for group in crops] == [(2, 3, 32, 32), (4, 3, 18, 18)]
    crops = methods.pictures("IIC", torch.zeros(2, 3, 32, 32, dtype=torch.uint8))[1]
    assert [tuple(group.shape) for group in crops] == [(1, 3, 32, 32), (3, 3, 32, 32)]


# Launches ----------------------------------------------------------------------------------------


def test_operations_are_counted_and_views_are_not(module):
    launches = module("launches")
    a = torch.ones(2, 3)
    with launches.Dispatched() as counter:
        (a + a).view(-1)[1:].unsqueeze(0).mul_(2)
    assert counter.counts == {"add": 1, "mul_": 1}


def test_operations_of_a_step_do_not_depend_on_batch_or_threads(module, monkeypatch):
    launches = module("launches")
    found = launches.count("digits/simclr")
    assert list(found) == ["images"]
    assert list(found["images"]) == list(launches.PARTS)
    assert found["images"]["loss"]["convolution"] == 3
    assert found["images"]["backward"]["convolution_backward"] == 3
    assert found["images"]["optimiser"]["_fused_adam_"] == 1
    monkeypatch.setattr(launches, "BATCH", 32)
    assert launches.count("digits/simclr") == found


def test_operations_beside_the_goal(module, monkeypatch):
    launches = module("launches")
    some = {"images": {part: launches.Counter(a=2) for part in launches.PARTS}}
    monkeypatch.setattr(launches, "count", lambda name: some)
    monkeypatch.setattr(launches, "GOALS", {"one": 10, "other": 9})
    found = [(row[0], *row[-3:]) for row in launches.table(("one", "other", "third")).rows]
    assert found == [
        ("one", "10", "10", "met"),
        ("other", "10", "9", "not met"),
        ("third", "10", "", ""),
    ]


# Growth ------------------------------------------------------------------------------------------


def test_exponents_of_powers(module):
    growth = module("growth")
    assert growth.exponent([1, 2, 4], [3.0, 12.0, 48.0]) == pytest.approx(2)
    assert growth.exponent([1, 2, 4], [7, 7, 7]) == pytest.approx(0)


def test_the_peak_is_what_is_held_at_once(module):
    growth = module("growth")
    x = torch.rand(1000)

    def run():
        for _ in range(3):
            y = x + 1  # 4000 bytes
            _ = y + 1  # 4000 more
            del y, _

    assert growth.peak_bytes(run, "cpu") == pytest.approx(8000, abs=256)


def test_nt_xent_holds_no_difference_for_each_pair(module):
    growth = module("growth")
    by_batch, by_size = (
        growth.measure(one._replace(sizes=(64, 128, 256)), "cpu", rounds=1)
        for one in growth.growths()
        if one.loss == "NT-Xent"
    )
    assert by_batch.growth.size == "batch"
    assert 1.7 < by_batch.memory < 2.1
    assert by_size.memory < 0.35  # (2B)^2 d would be 1
    assert by_size.bytes[-1] < 5 * 4 * (2 * 512) ** 2


def test_no_other_memory_grows_with_the_square_of_the_batch(module):
    growth = module("growth")
    by_batch = [one for one in growth.growths() if one.size == "batch" and one.loss != "NT-Xent"]
    assert len(by_batch) == 7
    for one in by_batch:
        found = growth.measure(one._replace(sizes=(32, 64, 128)), "cpu", rounds=1)
        assert found.memory < 1.2, one.loss
        assert one.memory == 1


def test_an_exponent_above_the_expected_one_is_called_steeper(module):
    growth, readme = module("growth"), module("readme")
    one = growth.growths()[0]._replace(time=1)
    found = growth.Found(one, [1.0, 4.0], [100, 400], 2.0, 2.0)
    assert not found.expected
    assert found._replace(growth=one._replace(time=2)).expected
    ((*_, verdict),) = readme.growth_table([found]).rows
    assert verdict == "steeper"


# The file ----------------------------------------------------------------------------------------


def test_the_file_is_written_by_the_run(module, monkeypatch, tmp_path, capsys):
    timing, growth, readme = module("timing"), module("growth"), module("readme")
    launches, reach = module("launches"), module("reach")
    times = {"ours": [1.0, 1.0], "theirs": [2.0, 4.0]}
    row = timing.row("a loss", times, "ours", "theirs", goal=3.0)
    slow = timing.row("a step", times, "ours", "theirs", goal=4.0, why=lambda: "`mm` 90%")
    one = growth.Found(growth.growths()[0], [1.0, 4.0], [100, 400], 2.0, 2.0)
    monkeypatch.setattr(readme, "PARTS", {"losses": lambda device: [row, slow]})
    monkeypatch.setattr(growth, "found", lambda device, every: [one])
    counted = readme.Table(("experiment", "in all"), (("digits/one", "7"),))
    monkeypatch.setattr(launches, "table", lambda: counted)
    quick = readme.Table(("experiment", "seconds"), (("digits/two", "3"),))
    monkeypatch.setattr(reach, "table", lambda device: quick)
    monkeypatch.setattr(readme, "machine", lambda device: f"a {device}")
    monkeypatch.setattr(torch, "set_num_threads", lambda threads: None)
    out = tmp_path / "README.md"
    monkeypatch.setattr(sys, "argv", ["readme.py", "--out", str(out)])
    readme.main()
    text = out.read_text()
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines()]
    assert ["a loss", "1", "theirs", "3", "3.00 (2.00 to 4.00)", "3", "met"] in cells
    assert ["a step", "1", "theirs", "3", "3.00 (2.00 to 4.00)", "4", "not met"] in cells
    assert "- a step: `mm` 90%." in text
    assert "- a loss" not in text
    assert "On a cpu; load" in text
    assert "2.00 (2)" in text
    assert ["digits/one", "7"] in cells
    assert ["digits/two", "3"] in cells

    out.unlink()
    capsys.readouterr()
    monkeypatch.setattr(sys, "argv", ["readme.py", "--out", str(out), "--only", "growth"])
    readme.main()
    assert not out.exists()
    assert "NT-Xent" in capsys.readouterr().out


# Seconds to an accuracy --------------------------------------------------------------------------


def test_an_accuracy_counts_when_it_is_reached_in_time(module, monkeypatch):
    reach = module("reach")
    goal = reach.Goal("digits/simclr", 8, 0.9, 10)
    monkeypatch.setattr(reach, "GOALS", (goal,))
    for found, word in (((0.95, 9.0), "met"), ((0.85, 9.0), "not met"), ((0.95, 11.0), "not met")):
        monkeypatch.setattr(reach, "reached", lambda *_, found=found: found)
        (row,) = reach.table().rows
        assert row[-1] == word
        assert row[1] == "8 of 40"


def test_a_shortened_training_is_timed(module):
    reach = module("reach")
    accuracy, seconds = reach.reached(reach.Goal("digits/simclr", 1, 0.9, 10), 0, "cpu")
    assert 0 < accuracy < 1
    assert seconds > 0
