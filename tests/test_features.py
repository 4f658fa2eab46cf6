"""Features on disk: of sets and folders, killed and gone on, stale, damaged, full disk."""

import errno
import filecmp
import itertools
import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from mixem import features as module
from mixem.data import ImageSet
from mixem.errors import InputError
from mixem.features import features, prepare
from mixem.lock import locked
from mixem.models.pretrained import Preprocessing, Pretrained

HALF = Preprocessing(32, (0.5, 0.5, 0.5), (0.25, 0.25, 0.25), "bicubic", 0.875)


class Means(nn.Module):
    """The mean of each channel, and of the upper half of the first; counts its batches."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def __deepcopy__(self, memo):
        return self

    def forward(self, x):
        self.seen.append(tuple(x.shape))
        return torch.cat([x.mean((2, 3)), x[:, :1, : x.shape[2] // 2].mean((2, 3))], 1)


def network(preprocessing=HALF, digest="0" * 64):
    return Pretrained("means", Means(), 4, preprocessing, "here", "nothing", "MIT", digest)


def image_set(n=10, size=40, channels=3, seed=0):
    generator = torch.Generator().manual_seed(seed)
    pixels = torch.randint(0, 256, (n, channels, size, size), generator=generator)
    return ImageSet(pixels.to(torch.uint8), None, name="made", split="train")


def embed(pictures, cache, net=None, **options):
    options = {"batch_size": 4, "precision": "float32", "progress": False, "workers": 2} | options
    return features(pictures, net or network(), cache=cache, **options)


@pytest.fixture
def folder(tmp_path):
    """Seven one-colour pictures at several depths, and what is none."""
    root = tmp_path / "photos"
    for i, name in enumerate(
        ["a.png", "b/c.jpg", "b/d/e.png", "b/f.JPG", "z.png", "y.png", "x.png"]
    ):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (60, 40), (30 * i, 10, 200)).save(root / name)
    (root / "notes.txt").write_text("no picture")
    return root


def test_by_hand(tmp_path):
    # White above, black below: each channel is (1/2 - 1/2) / (1/4) = 0, the upper half 2.
    pixels = torch.zeros(1, 3, 32, 32, dtype=torch.uint8)
    pixels[:, :, :16] = 255
    found = embed(ImageSet(pixels, None, name="made", split="train"), tmp_path)
    assert found.vectors.dtype == np.float16
    assert found.vectors.tolist() == [pytest.approx([0, 0, 0, 2], abs=2e-3)]


def test_a_set_is_computed_once(tmp_path):
    net, images = network(), image_set()
    first = embed(images, tmp_path, net)
    assert sorted(shape[0] for shape in net.network.seen) == [2, 4, 4]
    assert first.vectors.shape == (10, 4)
    scaled = (images.images / 255 - 0.5) / 0.25
    assert np.allclose(first.vectors[:, :3], scaled.mean((2, 3)), atol=0.02)
    again = embed(images, tmp_path, net)
    assert len(net.network.seen) == 3
    assert np.array_equal(again.vectors, first.vectors)
    assert isinstance(again.vectors, np.memmap)
    assert (again.files, again.skipped) == ((), ())


def test_grey_images_are_shown_in_three_channels(tmp_path):
    vectors = embed(image_set(channels=1), tmp_path).vectors
    assert np.array_equal(vectors[:, 0], vectors[:, 1])


def test_what_changes_a_number_has_features_of_its_own(tmp_path):
    images, net = image_set(), network()
    wide = replace(net, preprocessing=replace(HALF, mean=(0.4, 0.5, 0.5)))
    found = [
        embed(images, tmp_path, net),
        embed(image_set(seed=1), tmp_path, net),
        embed(images, tmp_path, wide),
        embed(images, tmp_path, replace(net, digest="1" * 64)),
        embed(images, tmp_path, replace(net, name="other")),
        embed(images, tmp_path, net, size=36),
        embed(images, tmp_path, net, fit="crop"),
        embed(images, tmp_path, net, precision="bfloat16"),
        embed(images, tmp_path, net, batch_size=5),
    ]
    assert len({f.folder for f in found}) == len(found)
    assert embed(images, tmp_path, net, workers=1).folder == found[0].folder


def test_a_folder(folder, tmp_path):
    found = embed(folder, tmp_path / "cache")
    assert found.files == ("a.png", "b/c.jpg", "b/d/e.png", "b/f.JPG", "x.png", "y.png", "z.png")
    assert found.skipped == ()
    # Padded to a square with grey, of which two thirds are the picture.
    red = 2 / 3 * np.array([0, 30, 60, 90, 180, 150, 120]) + 127 / 3
    assert np.allclose(found.vectors[:, 0] * 0.25 + 0.5, red / 255, atol=0.01)
    cropped = embed(folder, tmp_path / "cache", fit="crop")
    assert np.allclose(cropped.vectors[:, 2] * 0.25 + 0.5, 200 / 255, atol=0.01)


def test_a_changed_picture_makes_features_stale(folder, tmp_path):
    first = embed(folder, tmp_path / "cache")
    Image.new("RGB", (60, 40), (255, 255, 255)).save(folder / "a.png")
    second = embed(folder, tmp_path / "cache")
    assert second.folder != first.folder
    assert second.vectors[0, 0] > first.vectors[0, 0]
    (folder / "a.png").rename(folder / "0.png")
    assert embed(folder, tmp_path / "cache").files[0] == "0.png"


def test_what_cannot_be_read_is_left_out_and_named(folder, tmp_path):
    net = network()
    (folder / "b" / "bad.jpg").write_bytes(b"not a picture")
    found = embed(folder, tmp_path / "cache", net)
    assert found.skipped == (("b/bad.jpg", "not a picture that Pillow can read"),)
    assert "b/bad.jpg" not in found.files
    assert len(found.files) == len(found.vectors) == 7
    assert np.isfinite(found.vectors).all()
    seen = len(net.network.seen)
    again = embed(folder, tmp_path / "cache", net)
    assert (again.files, again.skipped) == (found.files, found.skipped)
    assert len(net.network.seen) == seen


class Killed(BaseException):
    pass


@pytest.mark.parametrize("batches", [1, 2])
@pytest.mark.parametrize("torn", [0, 5])
def test_killed_and_gone_on_is_the_same_file(tmp_path, batches, torn):
    images = image_set(11)
    whole = embed(images, tmp_path / "whole")

    class Dies(Means):
        def forward(self, x):
            if len(self.seen) == batches:
                raise Killed
            return super().forward(x)

    with pytest.raises(Killed):
        embed(images, tmp_path / "cache", replace(network(), network=Dies()), workers=1)
    (unfinished,) = (tmp_path / "cache").iterdir()
    with (unfinished / "vectors").open("ab") as file:
        file.write(b"\1" * torn)  # a write that did not end
    net = network()
    found = embed(images, tmp_path / "cache", net, workers=1)
    left = sorted(shape[0] for shape in net.network.seen)  # by several threads
    assert left == sorted([4, 4, 3][batches:])
    assert found.folder == unfinished
    assert filecmp.cmp(found.folder / "vectors", whole.folder / "vectors", shallow=False)
    said = [json.loads((f.folder / "features.json").read_text()) for f in (found, whole)]
    assert {**said[0], "seconds": 0} == {**said[1], "seconds": 0}


def test_killed_between_the_last_batch_and_the_description(tmp_path):
    net = network()
    found = embed(image_set(), tmp_path, net)
    (found.folder / "features.json").unlink()
    again = embed(image_set(), tmp_path, net)
    assert len(net.network.seen) == 3
    assert np.array_equal(found.vectors, again.vectors)


def test_a_damaged_file_is_refused(tmp_path):
    found = embed(image_set(), tmp_path)
    os.truncate(found.folder / "vectors", 10)
    with pytest.raises(InputError, match="are damaged; delete that folder"):
        embed(image_set(), tmp_path)
    (found.folder / "vectors").unlink()
    with pytest.raises(InputError, match="are damaged"):
        embed(image_set(), tmp_path)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no full disk at hand")
def test_a_full_disk_is_one_line(tmp_path, monkeypatch):
    real, net = Path.open, network()

    def full(path, mode="r", *args, **kwargs):
        return real(Path("/dev/full") if path.name == "vectors" else path, mode, *args, **kwargs)

    monkeypatch.setattr(Path, "open", full)
    with pytest.raises(InputError, match=r"cannot be written .*; \d+ of 10 are kept") as caught:
        embed(image_set(), tmp_path, net)
    assert "\n" not in str(caught.value)
    monkeypatch.undo()
    assert embed(image_set(), tmp_path, net).vectors.shape == (10, 4)


def test_a_disk_that_fills_keeps_what_there_is(tmp_path, monkeypatch):
    counter = itertools.count()
    real = np.ndarray.tobytes

    class Full(np.ndarray):
        def tobytes(self, order="C"):
            if next(counter) == 2:
                raise OSError(errno.ENOSPC, "No space left on device")
            return real(self, order)

    full = np.full
    monkeypatch.setattr(module.np, "full", lambda *args: full(*args).view(Full))
    with pytest.raises(InputError, match=r"No space left on device.*; 8 of 10 are kept"):
        embed(image_set(), tmp_path)
    monkeypatch.undo()
    net = network()
    found = embed(image_set(), tmp_path, net)
    assert [shape[0] for shape in net.network.seen] == [2]
    assert np.array_equal(found.vectors, embed(image_set(), tmp_path / "other").vectors)


def test_features_beyond_float16_are_refused(tmp_path):
    class Huge(Means):
        def forward(self, x):
            return super().forward(x) + 1e6

    with pytest.raises(InputError, match="no numbers below 65,504"):
        embed(image_set(), tmp_path, replace(network(), network=Huge()))


@pytest.mark.parametrize(
    ("instructions", "wanted"), [((), "float32"), (("_is_amx_tile_supported",), "bfloat16")]
)
def test_the_faster_precision_is_taken(tmp_path, monkeypatch, instructions, wanted):
    for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"):
        monkeypatch.setattr(
            torch.cpu, name, lambda there=name in instructions: there, raising=False
        )
    found = embed(image_set(4), tmp_path, precision="auto")
    assert found.description["precision"] == wanted


def test_prepare():
    picture = Image.new("RGB", (100, 50), (200, 0, 0))
    padded = prepare(picture, HALF, size=40, fit="pad")
    assert padded.shape == (40, 40, 3)
    assert (padded[:10] == 127).all()
    assert (padded[-10:] == 127).all()
    assert (padded[11:29] == (200, 0, 0)).all()
    # Of 50 x 50 in the middle 7/8 are kept: from column 28.1 on, 43.75 columns for 40.
    values = np.zeros((50, 100, 3), np.uint8)
    values[:, :39] = 255
    columns = prepare(Image.fromarray(values), HALF, size=40, fit="crop")[20, :, 0]
    assert (columns > 127).sum() == round((39 - 28.125) / 43.75 * 40)
    assert (prepare(picture, HALF, size=40, fit="crop") == (200, 0, 0)).all()


def test_the_description_is_kept(tmp_path):
    found = embed(image_set(), tmp_path)
    kept = json.loads((found.folder / "features.json").read_text())["description"]
    assert kept == found.description | {"preprocessing": kept["preprocessing"]}
    assert kept["weights"] == "0" * 64
    assert kept["count"] == 10


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"size": 8}, "size is 8"),
        ({"batch_size": 0}, "batch_size 0"),
        ({"fit": "squash"}, "fit 'squash'"),
        ({"precision": "float8"}, "precision is 'float8'"),
    ],
)
def test_other_options_are_refused(tmp_path, options, message):
    with pytest.raises(InputError, match=message):
        embed(image_set(), tmp_path, **options)


def test_folders_without_pictures_are_refused(tmp_path):
    with pytest.raises(InputError, match="no folder"):
        embed(tmp_path / "nothing", tmp_path / "cache")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="no picture in"):
        embed(tmp_path / "empty", tmp_path / "cache")
    (tmp_path / "empty" / "a.jpg").write_bytes(b"no")
    with pytest.raises(InputError, match=r"none of the 1 pictures is readable: .a\.jpg.: not a"):
        embed(tmp_path / "empty", tmp_path / "cache")


# Faults of the machine, and two processes --------------------------------------------------------


@pytest.mark.parametrize(
    ("first", "message"),
    [(1, "Too many open files; that is a fault"), (2, r"'b/bad.jpg' cannot be read now: Too many")],
)
def test_a_fault_of_the_machine_is_no_unreadable_picture(
    folder, tmp_path, monkeypatch, first, message
):
    """F6: neither while pictures are read nor when the reasons are written down."""
    (folder / "b" / "bad.jpg").write_bytes(b"not a picture")
    real, cache, calls = module.open_picture, tmp_path / "cache", []

    def fail(path, size):
        calls.extend([path] * (path.name == "bad.jpg"))
        if path.name == "bad.jpg" and len(calls) == first:
            raise OSError(errno.EMFILE, "Too many open files")
        return real(path, size)

    with monkeypatch.context() as patch:
        patch.setattr(module, "open_picture", fail)
        with pytest.raises(InputError, match=message):
            embed(folder, cache)
    assert list(cache.rglob("features.json")) == []
    found = embed(folder, cache)
    assert found.skipped == (("b/bad.jpg", "not a picture that Pillow can read"),)
    assert len(found.vectors) == 7


@pytest.mark.parametrize("odd", ["a.png", "y.png", "z.png"])
def test_a_picture_that_could_not_be_read_for_a_moment_is_not_left_out(
    folder, tmp_path, monkeypatch, odd
):
    """It was kept as "could not be read at first", for ever."""
    real, cache, failed = module.open_picture, tmp_path / "cache", []

    def once(path, size):
        if path.name == odd and not failed:
            failed.append(path)
            raise InputError("No such file or directory")
        return real(path, size)

    monkeypatch.setattr(module, "open_picture", once)
    with pytest.raises(InputError, match=f"'{odd}' could not be read before and can be now; call"):
        embed(folder, cache)
    again = embed(folder, cache)  # as it says
    whole = embed(folder, tmp_path / "whole")
    assert (again.files, again.skipped) == (whole.files, ())
    assert filecmp.cmp(again.folder / "vectors", whole.folder / "vectors", shallow=False)


def test_heic_and_features_of_a_plug_in_that_came_later(folder, tmp_path, monkeypatch):
    (folder / "p.heic").write_bytes(b"\0\0\0\x18ftypheic" + bytes(40))
    monkeypatch.setattr(module, "optional_readers", lambda _: [])
    before = embed(folder, tmp_path / "cache")
    monkeypatch.setattr(module, "optional_readers", lambda _: ["heif"])
    assert embed(folder, tmp_path / "cache").folder != before.folder


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such lock")
def test_a_second_process_waits_for_no_features_and_spoils_none(tmp_path):
    """Two wrote one file in turn."""
    images, cache = image_set(11), tmp_path / "cache"
    refused = []

    class Meets(Means):
        def forward(self, x):
            if not refused:  # another process, or another thread of this one
                with pytest.raises(InputError, match="another process is at work in") as error:
                    embed(images, cache)
                refused.append(str(error.value))
            return super().forward(x)

    first = embed(images, cache, replace(network(), network=Meets()), workers=1)
    assert str(first.folder) in refused[0]
    whole = embed(images, tmp_path / "whole")
    assert filecmp.cmp(first.folder / "vectors", whole.folder / "vectors", shallow=False)


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such lock")
def test_finished_features_are_read_while_others_hold_the_folder(tmp_path):
    images = image_set(5)
    found = embed(images, tmp_path)
    with locked(found.folder):
        assert np.array_equal(embed(images, tmp_path).vectors, found.vectors)


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such lock")
def test_features_of_a_killed_process_are_free(tmp_path):
    """The system lets go of the lock; what was written is gone on with."""
    script = (
        "import os, sys, torch\n"
        "sys.path.insert(0, sys.argv[2])\n"
        "from test_features import Means, embed, image_set, network\n"
        "from dataclasses import replace\n"
        "class Dies(Means):\n"
        "    def forward(self, x):\n"
        "        if len(self.seen) == 2: os.kill(os.getpid(), 9)\n"
        "        return super().forward(x)\n"
        "embed(image_set(11), sys.argv[1], replace(network(), network=Dies()), workers=1)\n"
    )
    here = Path(__file__).parent
    done = subprocess.run(
        [sys.executable, "-c", script, tmp_path / "cache", here],
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(here.parent), *sys.path])},
        capture_output=True, check=False,
    )  # fmt: skip
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()
    images = image_set(11)
    again, whole = embed(images, tmp_path / "cache"), embed(images, tmp_path / "whole")
    assert filecmp.cmp(again.folder / "vectors", whole.folder / "vectors", shallow=False)
