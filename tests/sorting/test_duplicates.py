"""Duplicates: by hand, against a slow loop, with all alike, and as pictures are copied for real."""

import errno
import io
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageEnhance

from mixem.errors import InputError
from mixem.sorting import duplicates, near_duplicates, same_files


def lists(groups) -> list[list[int]]:
    return [rows.tolist() for rows in groups]


def test_by_hand() -> None:
    x = [[1, 0], [0.0, 2], [3, 0.1], [-1, 0], [0.1, 9], [5, 0], [1, 1]]
    assert lists(near_duplicates(x)) == [[0, 2, 5], [1, 4]]
    assert lists(near_duplicates(x, similarity=1)) == [[0, 5]]
    assert lists(near_duplicates(x, similarity=0.7)) == [[0, 2, 5, 6], [1, 4]]


def test_of_features_095_is_enough() -> None:
    angle = np.arccos([1, 0.951, 0.949])
    x = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    assert lists(near_duplicates(x[[0, 1]])) == [[0, 1]]
    assert near_duplicates(x[[0, 2]]) == ()


def test_groups_are_no_chains() -> None:
    angles = np.deg2rad(np.arange(0, 90, 10))
    x = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    assert lists(near_duplicates(x, similarity=np.cos(np.deg2rad(15)))) == [
        [0, 1], [2, 3], [4, 5], [6, 7]
    ]  # fmt: skip


def slowly(x, similarity) -> list[list[int]]:
    """One after the other: to the first group whose first picture is similar."""
    h = x / np.linalg.norm(x, axis=1, keepdims=True)
    groups: list[list[int]] = []
    for i in range(len(x)):
        for group in groups:
            if h[i] @ h[group[0]] >= similarity:
                group.append(i)
                break
        else:
            groups.append([i])
    return sorted([g for g in groups if len(g) > 1], key=lambda g: (-len(g), g[0]))


@pytest.mark.parametrize("block", [1, 3, 7, 64])
@pytest.mark.parametrize("similarity", [0.5, 0.8, 0.95])
def test_blocks_are_as_one_slow_loop(monkeypatch, block, similarity) -> None:
    monkeypatch.setattr(duplicates, "BLOCK", block)
    x = np.random.default_rng(0).normal(size=(60, 3))
    expected = slowly(x, similarity)
    assert expected
    assert lists(near_duplicates(x, similarity=similarity)) == expected
    assert lists(near_duplicates(torch.from_numpy(x), similarity=similarity)) == expected


@pytest.mark.parametrize("few", [0, 16])
@pytest.mark.parametrize("similarity", [0.6, 0.9, 0.99])
def test_few_directions_are_as_one_slow_loop(monkeypatch, few, similarity) -> None:
    for name, value in {"BLOCK": 13, "DIRECTIONS": 4, "FEW": few}.items():
        monkeypatch.setattr(duplicates, name, value)
    rng = np.random.default_rng(0)
    x = rng.normal(size=(8, 20))[rng.integers(8, size=100)]
    x += rng.normal(size=x.shape) * rng.choice([0.01, 0.1, 0.3], size=(100, 1))
    x[50] = 0
    with np.errstate(invalid="ignore"):
        expected = slowly(x, similarity)
    assert len(expected) > 3
    assert lists(near_duplicates(x, similarity=similarity)) == expected


def test_grey_pictures_are_compared_alike_in_one_channel_and_in_three() -> None:
    grey = torch.from_numpy(np.random.default_rng(0).integers(0, 255, (30, 1, 20, 20), np.uint8))
    grey[20] = (grey[3].float() * 0.7).byte()
    found = lists(near_duplicates(grey))
    assert found == [[3, 20]]
    assert lists(near_duplicates(grey.expand(-1, 3, -1, -1))) == found


def test_all_alike_are_one_group() -> None:
    assert lists(near_duplicates(np.ones((5000, 2), np.float16))) == [list(range(5000))]


def test_rows_of_zeros_are_like_nothing() -> None:
    assert near_duplicates(np.zeros((4, 3))) == ()
    assert near_duplicates(torch.full((4, 3, 8, 8), 7, dtype=torch.uint8)) == ()


def photograph(seed: int) -> Image.Image:
    """Soft patches of colour, as in a photograph."""
    noise = np.random.default_rng(seed).integers(256, size=(6, 8, 3)).astype(np.uint8)
    return Image.fromarray(noise).resize((320, 240), Image.Resampling.BICUBIC)


def pixels(pictures) -> torch.Tensor:
    square = [np.asarray(p.resize((48, 48), Image.Resampling.BOX)) for p in pictures]
    return torch.from_numpy(np.stack(square)).permute(0, 3, 1, 2)


def test_pixels_see_through_size_compression_and_brightness() -> None:
    one, other = photograph(0), photograph(1)
    file = io.BytesIO()
    one.save(file, "JPEG", quality=20)
    copies = [one.resize((80, 60)), Image.open(file), ImageEnhance.Brightness(one).enhance(0.7)]
    assert lists(near_duplicates(pixels([one, other, *copies]))) == [[0, 2, 3, 4]]
    assert near_duplicates(pixels([one, other, one.rotate(180), photograph(2)])) == ()


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (np.zeros(3), "shape"),
        (np.zeros((0, 3)), "shape"),
        (np.zeros((2, 3, 4, 4)), "torch.float64"),
        ([[1.0, np.nan]], "not finite"),
    ],
)
def test_other_input_is_refused(x, message) -> None:
    with pytest.raises(InputError, match=message):
        near_duplicates(x)


@pytest.mark.parametrize("similarity", [0, 1.1, float("nan")])
def test_similarity_has_a_range(similarity) -> None:
    with pytest.raises(InputError, match="similarity"):
        near_duplicates([[1.0]], similarity=similarity)


def test_same_files_have_the_same_bytes(tmp_path: Path) -> None:
    content = {"a": b"1", "b": b"22", "c": b"1", "d": b"23", "e": b"22", "sub/f": b"1", "g": b"9"}
    for name, data in content.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(data)
    files = [*content, "gone", "sub"]
    assert lists(same_files(tmp_path, files)) == [[0, 2, 5], [1, 4]]
    (tmp_path / "e").unlink()
    assert lists(same_files(tmp_path, files)) == [[0, 2, 5]]


def test_a_fault_of_the_machine_is_no_difference(tmp_path: Path, monkeypatch) -> None:
    for name in "ab":
        (tmp_path / name).write_bytes(b"1")

    def fail(*_, **__):
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(Path, "open", fail)
    with pytest.raises(OSError, match="Too many"):
        same_files(tmp_path, ["a", "b"])
