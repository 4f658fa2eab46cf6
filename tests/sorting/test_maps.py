"""Maps of pictures: any size, tiles without seams, files that other programs read."""

import csv
import errno
import io

import numpy as np
import pytest
import torch
from PIL import Image

from mixem.data import Augmentation
from mixem.errors import InputError
from mixem.methods import IICSegmentation, IICSegmentationSettings
from mixem.models import SegmentationNet10a
from mixem.sorting import PixelMap, map_picture, map_pictures, palette, write_map, write_shares


def make(channels=3, clusters=4, frame=False):
    torch.manual_seed(0)
    return IICSegmentation(
        SegmentationNet10a(channels, width=2, frame=frame),
        Augmentation(size=32),
        IICSegmentationSettings(passes=("main",)),
        clusters=clusters,
    ).eval()


def picture(wide, tall, seed=0):
    random = np.random.default_rng(seed)
    small = Image.fromarray(random.integers(256, size=(tall // 3, wide // 3, 3), dtype=np.uint8))
    return small.resize((wide, tall), Image.Resampling.BICUBIC)


@pytest.mark.parametrize("size", [(150, 96), (96, 150), (170, 260)])
def test_tiles_show_no_seam(size):
    method, image = make(), picture(*size)
    side = min(size)
    whole = map_picture(method, image, side=side)
    assert len(np.unique(whole)) > 1
    for tile in (32, 50, 64):
        tiled = map_picture(method, image, side=side, tile=tile)
        # Rounding may decide where two clusters are equally probable.
        assert (tiled == whole).mean() > 0.999, tile


def test_without_a_margin_there_would_be_seams(monkeypatch):
    method, image = make(), picture(96, 150)
    monkeypatch.setattr("mixem.sorting.maps.MARGIN", 0)
    whole = map_picture(method, image, side=96)
    assert (map_picture(method, image, side=96, tile=32) != whole).mean() > 0.01


@pytest.mark.parametrize("size", [(3, 5), (40, 31), (31, 100), (500, 60), (1, 1)])
@pytest.mark.parametrize("frame", [False, True])
def test_a_map_has_the_size_of_its_picture(size, frame):
    image = Image.fromarray(np.zeros((size[1], size[0], 3), np.uint8))
    found = map_picture(make(frame=frame), image, side=32)
    assert found.shape == size[::-1]
    assert found.dtype == np.uint8
    assert found.max() < 4


def test_the_map_lies_where_the_picture_is():
    """A picture of two halves, which a network tells apart by brightness."""

    class Bright(torch.nn.Module):
        out_features, frame = 2, False

        def forward(self, images):
            return torch.cat([images, 1 - images], 1)

    method = IICSegmentation(
        Bright(), Augmentation(size=32), IICSegmentationSettings(passes=("main",)), clusters=2
    ).eval()
    method.channels = 1
    method.heads["main"].convolution.weight.data = torch.eye(2).view(2, 2, 1, 1) * 9
    pixels = np.zeros((50, 80, 3), np.uint8)
    pixels[:, 60:] = 255
    found = map_picture(method, Image.fromarray(pixels), side=32)
    expected = np.where(pixels[..., 0] > 0, 0, 1)
    assert (found != expected).mean() < 0.03
    assert (found[:, :58] == 1).all()
    assert (found[:, 62:] == 0).all()


def test_what_cannot_be_mapped_is_said():
    with pytest.raises(InputError, match="maps of 300 clusters; a PNG's palette has 256"):
        map_picture(make(clusters=300), picture(30, 30), side=32)
    with pytest.raises(InputError, match="2001 x 3 pixels, more than 200 times as long as wide"):
        map_picture(make(), Image.new("RGB", (2001, 3)), side=32)
    method = make(channels=4)
    method.channels = 4
    with pytest.raises(InputError, match="a network for 4 channels; pictures have 1 or 3"):
        map_picture(method, picture(30, 30), side=32)


def test_a_broken_picture_is_passed_over(tmp_path):
    picture(40, 30).save(tmp_path / "a.png")
    (tmp_path / "b.png").write_bytes(b"no picture")
    Image.new("RGB", (2000, 2)).save(tmp_path / "c.png")
    found = list(map_pictures(make(), tmp_path, ["a.png", "b.png", "c.png", "d.png"], side=32))
    assert found[0].file == "a.png"
    assert found[0].clusters.shape == (30, 40)
    assert [one[0] for one in found[1:]] == ["b.png", "c.png", "d.png"]
    assert found[1][1] == "not a picture that Pillow can read"
    assert found[3][1] == "No such file or directory"


def test_a_map_as_a_file(tmp_path):
    clusters = np.arange(12, dtype=np.uint8).reshape(3, 4) % 3
    image = Image.new("RGB", (4, 3), (100, 100, 100))
    write_map(PixelMap("deep/a.jpg", clusters, image), tmp_path, k=3, overlay=True)
    with Image.open(tmp_path / "deep" / "a.jpg.png") as written:
        assert written.mode == "P"
        assert np.array_equal(np.asarray(written), clusters)
        colours = np.asarray(written.convert("RGB"))
    assert [tuple(colours[clusters == c][0].tolist()) for c in range(3)] == palette(3)
    with Image.open(tmp_path / "deep" / "a.jpg.overlay.jpg") as written:
        assert written.size == (4, 3)
        assert written.mode == "RGB"
    assert len(list(tmp_path.rglob("*.*"))) == 2


def test_shares_as_a_table():
    found = PixelMap("=a.png", np.array([[0, 0], [2, 2]], np.uint8), Image.new("RGB", (2, 2)))
    assert found.shares(3).tolist() == [0.5, 0, 0.5]
    text = io.StringIO()
    write_shares([("=a.png", found.shares(3)), ("b.png", np.array([0, 1 / 3, 2 / 3]))], text)
    rows = list(csv.reader(io.StringIO(text.getvalue())))
    assert rows == [
        ["file", "cluster_0", "cluster_1", "cluster_2"],
        ["./=a.png", "0.5", "0.0", "0.5"],
        ["b.png", "0.0", "0.333333", "0.666667"],
    ]


@pytest.mark.parametrize("k", [2, 7, 8, 40, 256])
def test_colours_differ(k):
    colours = palette(k)
    assert len(set(colours)) == len(colours) == k
    assert all(0 <= level <= 255 for colour in colours for level in colour)


def test_a_fault_of_the_machine_is_no_unreadable_picture(tmp_path, monkeypatch):
    Image.new("RGB", (40, 40)).save(tmp_path / "a.png")

    def fail(*_):
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr("PIL.Image.open", fail)
    with pytest.raises(OSError, match="Too many"):
        list(map_pictures(make(), tmp_path, ["a.png"], side=32))
