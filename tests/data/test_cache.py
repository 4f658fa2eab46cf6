"""Large folders go through a cache on disk, and leave nothing behind that nobody wants."""

import os
import resource
import shutil
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from mixem.data import delete_caches, list_caches, load_images
from mixem.data.cache import map_pixels, write_cache
from mixem.data.picture import optional_readers, read_picture
from mixem.errors import InputError

RED = (255, 0, 0)


def picture(path: Path, colour=RED, size=(20, 16), mode="RGB", **save) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, colour).save(path, **save)
    return path


def load(path: Path, **options):
    return load_images(f"folder:{path}", **{"split": "all", "size": 8, **options})


@pytest.fixture
def large(tmp_path: Path) -> Path:
    """More pictures than a block, one of them broken, in two classes."""
    root = tmp_path / "large"
    for i in range(30):
        picture(root / "ab"[i % 2] / f"{i:02}.png", (i, 0, 255 - i))
    (root / "a" / "99.png").write_text("?")
    return root


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mixem.data.folder.BLOCK", 7)


def test_the_cache_gives_the_same_images(large: Path, tmp_path: Path):
    inside = load(large)
    mapped = load(large, memory_limit=1000, root=tmp_path / "cache")
    assert torch.equal(mapped.images, inside.images)
    assert mapped.fingerprint == inside.fingerprint
    assert (mapped.files, mapped.skipped) == (inside.files, inside.skipped)
    assert mapped.labels is not None
    assert inside.labels is not None
    assert torch.equal(mapped.labels, inside.labels)
    assert [name for name, _ in mapped.skipped] == ["a/99.png"]
    some = mapped.subset(torch.tensor([3, 1]))
    assert torch.equal(some.images, inside.images[[3, 1]])


def test_the_cache_is_mapped_and_not_read(large: Path, tmp_path: Path):
    mapped = load(large, memory_limit=1000, root=tmp_path / "cache")
    (pixels,) = (tmp_path / "cache" / "folders").glob("*/pixels")
    assert pixels.stat().st_size == mapped.images.numel()
    assert str(pixels) in Path("/proc/self/maps").read_text()


def test_an_unchanged_folder_is_not_decoded_again(
    large: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    options = {"memory_limit": 1000, "root": tmp_path / "cache"}
    first = load(large, **options)

    def refuse(*_, **__):
        raise AssertionError("decoded again")

    with monkeypatch.context() as patch:
        patch.setattr("mixem.data.folder.read_picture", refuse)
        again = load(large, **options)
        assert again.fingerprint == first.fingerprint
        assert again.skipped == first.skipped
        with pytest.raises(AssertionError, match="decoded again"):
            load(large, **options, channels=1)
    os.utime(large / "a" / "00.png", ns=(1, 1))
    with monkeypatch.context() as patch:
        patch.setattr("mixem.data.folder.read_picture", refuse)
        with pytest.raises(AssertionError, match="decoded again"):
            load(large, **options)
    picture(large / "a" / "00.png", (200, 200, 200))
    assert load(large, **options).fingerprint != first.fingerprint


def test_two_that_write_one_cache_do_not_get_in_each_others_way(tmp_path: Path):
    about = {"folder": "f", "split": "all", "size": 2, "channels": 1, "pictures": 1}
    block = np.ones((1, 1, 2, 2), np.uint8)

    def second_is_faster():
        write_cache(tmp_path / "c", blocks=[block], changes=(), about=lambda: about)
        yield block

    write_cache(tmp_path / "c", blocks=second_is_faster(), changes=(), about=lambda: about)
    assert map_pixels(tmp_path / "c", size=2, channels=1)[0].tolist() == block.tolist()
    assert [path.name for path in tmp_path.iterdir()] == ["c"]


def test_a_failed_write_leaves_nothing_behind(large: Path, tmp_path: Path):
    cache = tmp_path / "cache"
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, hard))  # as on a full disk
    try:
        with pytest.raises(InputError, match=r"cannot be written .* free space there") as caught:
            load(large, memory_limit=1000, root=cache)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert "\n" not in str(caught.value)
    assert list((cache / "folders").iterdir()) == []
    assert len(load(large, memory_limit=1000, root=cache)) == 30


def test_an_interrupted_decoding_leaves_nothing_behind(
    large: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    real, calls = read_picture, []

    def interrupted(path, *arguments, **options):
        calls.append(path)
        if len(calls) > 15:
            raise KeyboardInterrupt
        return real(path, *arguments, **options)

    monkeypatch.setattr("mixem.data.folder.read_picture", interrupted)
    with pytest.raises(KeyboardInterrupt):
        load(large, memory_limit=1000, root=tmp_path / "cache")
    assert list((tmp_path / "cache" / "folders").iterdir()) == []


def test_a_cache_that_is_a_file_is_an_error(large: Path, tmp_path: Path):
    (tmp_path / "cache").write_text("?")
    with pytest.raises(InputError, match="cannot be written"):
        load(large, memory_limit=1000, root=tmp_path / "cache")


def test_a_damaged_cache_is_an_error(large: Path, tmp_path: Path):
    load(large, memory_limit=1000, root=tmp_path / "cache")
    (pixels,) = (tmp_path / "cache" / "folders").glob("*/pixels")
    with pixels.open("r+b") as file:
        file.truncate(100)
    with pytest.raises(InputError, match=r"the cache .* is damaged; delete it"):
        load(large, memory_limit=1000, root=tmp_path / "cache")


def test_a_large_folder_of_broken_files_is_an_error(tmp_path: Path):
    for i in range(20):
        picture(tmp_path / "in" / f"{i}.png").write_text("?")
    for _ in range(2):
        with pytest.raises(InputError, match="none of the 20 pictures"):
            load(tmp_path / "in", memory_limit=100, root=tmp_path / "cache")


def test_caches_are_listed_and_deleted(large: Path, tmp_path: Path):
    cache = tmp_path / "cache"
    assert list_caches(cache) == []
    before = time.time() - 5
    for channels in (1, 3):
        load(large, memory_limit=1000, root=cache, channels=channels)
    grey, colour = sorted(list_caches(cache), key=lambda found: found.channels)
    for found, channels in ((grey, 1), (colour, 3)):
        assert found.folder == str(large.resolve())
        assert (found.split, found.size, found.channels) == ("all", 8, channels)
        assert found.pictures == 30
        assert found.bytes >= 30 * channels * 64
        assert before < found.written < time.time() + 5
        assert found.of_use
    freed = delete_caches([grey])
    assert freed == grey.bytes
    assert list_caches(cache) == [colour]
    assert delete_caches([grey, colour]) == colour.bytes
    assert list_caches(cache) == []


def test_a_cache_of_a_folder_that_is_gone_is_of_no_use(large: Path, tmp_path: Path):
    load(large, memory_limit=1000, root=tmp_path / "cache")
    shutil.rmtree(large)
    (found,) = list_caches(tmp_path / "cache")
    assert not found.of_use


def test_old_caches_of_a_changed_folder_go_by_themselves(large: Path, tmp_path: Path):
    """Fault 20: a folder that lost a file each time left a full copy each time."""
    options = {"memory_limit": 1000, "root": tmp_path / "cache"}
    load(large, **options, size=4)
    other = tmp_path / "other"
    shutil.copytree(large, other)
    load(other, **options)
    for i in range(3):
        (large / "ab"[i % 2] / f"{i:02}.png").unlink()
        assert len(load(large, **options)) == 29 - i
    found = list_caches(tmp_path / "cache")
    kept = sorted((Path(cache.folder).name, cache.size, cache.pictures) for cache in found)
    assert kept == [("large", 4, 30), ("large", 8, 27), ("other", 8, 30)]


def test_splits_have_caches_of_their_own(tmp_path: Path):
    for part in ("train", "test"):
        for name in "ab":
            picture(tmp_path / "in" / part / name / "1.png")
    options = {"memory_limit": 10, "root": tmp_path / "cache"}
    for split in ("train", "test", "all"):
        load(tmp_path / "in", split=split, **options)
    assert {cache.split for cache in list_caches(tmp_path / "cache")} == {
        "train", "test", "train+test",
    }  # fmt: skip


def test_a_mapped_set_outlives_its_cache(large: Path, tmp_path: Path):
    mapped = load(large, memory_limit=1000, root=tmp_path / "cache")
    delete_caches(list_caches(tmp_path / "cache"))
    assert torch.equal(mapped.images, load(large).images)


def test_what_a_killed_process_left_is_swept_after_an_hour(large: Path, tmp_path: Path):
    folders = tmp_path / "cache" / "folders"
    for name, age in (("unfinished-old", 4000), ("unfinished-new", 10)):
        (folders / name).mkdir(parents=True)
        (folders / name / "pixels").write_bytes(b"?")
        os.utime(folders / name / "pixels", times=(time.time() - age,) * 2)
    load(large, memory_limit=1000, root=tmp_path / "cache")
    assert sorted(path.name for path in folders.glob("unfinished-*")) == ["unfinished-new"]
    assert "" in {cache.folder for cache in list_caches(tmp_path / "cache")}


def test_caches_of_an_earlier_version_are_listed(tmp_path: Path):
    old = tmp_path / "cache" / "folders" / "0123"
    old.mkdir(parents=True)
    (old / "pixels").write_bytes(bytes(100))
    (old / "skipped.json").write_text("{}")
    (found,) = list_caches(tmp_path / "cache")
    assert (found.folder, found.bytes, found.of_use) == ("", 102, False)
    assert delete_caches([found]) == 102


def test_a_fault_of_the_machine_is_not_cached(large: Path, tmp_path: Path, monkeypatch):
    """F6: a folder read with a full memory was cached as one of unreadable pictures."""
    options = {"memory_limit": 1000, "root": tmp_path / "cache"}
    for fault, kind, message in (
        (MemoryError("full"), MemoryError, "full"),
        (OSError(24, "Too many open files"), InputError, "Too many open files; that is a fault"),
    ):

        def fail(path, *arguments, fault=fault):
            raise fault

        with monkeypatch.context() as patch:
            patch.setattr("PIL.Image.open", fail)
            with pytest.raises(kind, match=message):
                load(large, **options)
        assert list_caches(tmp_path / "cache") == []
    assert len(load(large, **options)) == 30


def test_a_plug_in_that_is_installed_later_is_asked(tmp_path: Path, monkeypatch):
    """The cache said "install pillow-heif" for ever, however often one did as it says."""
    heads = {"a": b"\0\0\0\x18ftypheic", "b": b"\0\0\0\x18ftypavif"}
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "1.heic").write_bytes(heads["a"] + bytes(40))
    picture(tmp_path / "in" / "2.png")
    options = {"memory_limit": 1, "root": tmp_path / "cache"}
    found, real = [], Image.open

    def opened(path, *rest):
        plugged = found and str(path).endswith("heic")
        return Image.new("RGB", (9, 9), RED) if plugged else real(path, *rest)

    monkeypatch.setattr("mixem.data.picture._heif_can_be_read", lambda: bool(found))
    monkeypatch.setattr(Image, "open", opened)
    before = load(tmp_path / "in", **options)
    assert [why for _, why in before.skipped] == [
        "a HEIC photograph; install pillow-heif to read it"
    ]
    found.append("the plug-in")
    after = load(tmp_path / "in", **options)
    assert (after.files, after.skipped) == (("1.heic", "2.png"), ())
    assert len(list_caches(tmp_path / "cache")) == 1


def test_only_who_has_such_files_depends_on_a_plug_in(monkeypatch):
    asked = []
    monkeypatch.setattr("mixem.data.picture._heif_can_be_read", lambda: asked.append(1) or True)
    assert optional_readers(["a.png", "heic"]) == []
    assert asked == []
    assert optional_readers(["a.png", "b.HEIC"]) == ["heif"]
    monkeypatch.setattr("mixem.data.picture.features.check", lambda _: None)
    assert optional_readers(["c.avif"]) == []
    monkeypatch.setattr("mixem.data.picture.features.check", lambda _: True)
    assert optional_readers(["c.avif", "d.hif"]) == ["heif", "avif"]


def test_a_cache_that_cannot_be_read_now_is_not_to_be_deleted(large: Path, tmp_path: Path):
    options = {"memory_limit": 1000, "root": tmp_path / "cache"}
    load(large, **options)
    (cache,) = list_caches(tmp_path / "cache")

    def denied(*_, **__):
        raise PermissionError(13, "Permission denied")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Path, "read_text", denied)
        with pytest.raises(InputError, match="cannot be read: Permission denied; mend that"):
            load(large, **options)
    (cache.path / "about.json").unlink()
    with pytest.raises(InputError, match="is damaged; delete it"):
        load(large, **options)


def test_notes_come_out_of_the_cache(tmp_path: Path):
    (tmp_path / "in").mkdir()
    for i, level in enumerate((900, 4000, 2000)):
        pixels = np.full((8, 8), level, np.uint16)
        Image.fromarray(pixels).save(tmp_path / "in" / f"{i}.tif")
    inside = load(tmp_path / "in", channels=1)
    options = {"memory_limit": 10, "root": tmp_path / "cache", "channels": 1}
    for _ in range(2):
        mapped = load(tmp_path / "in", **options)
        assert torch.equal(mapped.images, inside.images)
        assert mapped.notes == inside.notes
    assert mapped.notes == ("white is 4095 in 3 16-bit picture(s), whose values reach 4000",)
    # The dark picture stays dark beside the others; alone it would be 900 of 1023.
    assert mapped.images[:, 0, 0, 0].tolist() == [
        level * 255 // 4095 for level in (900, 4000, 2000)
    ]
