"""Sorted folders: complete, unambiguous, and nothing overwritten or lost, whatever stops them."""

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mixem.errors import InputError
from mixem.sorting import ClusterTable, sort_into, table
from mixem.sorting.folders import LIST

CLUSTERS = {"a/1.png": 0, "b/1.png": 0, "b/2.png": 1, "3.png": 1, "c/1.PNG": 0}


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A folder of files that are told apart by their content."""
    for name in CLUSTERS:
        file = tmp_path / "photos" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(name)
    return tmp_path / "photos"


def sorting(clusters=CLUSTERS, names=(), k=3) -> ClusterTable:
    distances = [[0.0 if c == own else 1.0 for c in range(k)] for own in clusters.values()]
    return table(list(clusters), distances=distances, names=names)


def tree(place: Path) -> dict[str, str]:
    """What each visible file holds."""
    return {
        path.relative_to(place).as_posix(): path.read_text()
        for path in sorted(place.rglob("*"))
        if path.is_file() and not path.name.startswith(".")
    }


EXPECTED = {
    "cluster-0/1.png": "a/1.png",
    "cluster-0/1-2.png": "b/1.png",
    "cluster-0/1-3.PNG": "c/1.PNG",  # which other file systems take for 1.png
    "cluster-1/2.png": "b/2.png",
    "cluster-1/3.png": "3.png",
}


@pytest.mark.parametrize("how", ["copy", "link"])
def test_every_picture_is_in_the_folder_of_its_cluster(photos: Path, tmp_path: Path, how) -> None:
    place = tmp_path / "new" / "sorted"
    done = sort_into(place, sorting(), folder=photos, how=how)
    assert tree(place) == EXPECTED
    assert done == (("cluster-0", "cluster-1", "cluster-2"), 5, 0, (), ())
    links = [path for path in place.rglob("*") if path.is_symlink()]
    assert len(links) == (5 if how == "link" else 0)
    assert sorted(path.name for path in place.iterdir()) == [LIST, "cluster-0", "cluster-1"]
    assert tree(photos) == {name: name for name in CLUSTERS}


def test_a_copy_keeps_its_time_and_can_be_written_to(photos: Path, tmp_path: Path) -> None:
    os.utime(photos / "3.png", (1e9, 1e9))
    (photos / "3.png").chmod(0o444)
    sort_into(tmp_path / "sorted", sorting(), folder=photos)
    copy = tmp_path / "sorted" / "cluster-1" / "3.png"
    assert copy.stat().st_mtime == 1e9
    assert copy.stat().st_mode & 0o200


@pytest.mark.parametrize("how", ["copy", "link"])
def test_again_does_nothing(photos: Path, tmp_path: Path, how) -> None:
    place = tmp_path / "sorted"
    sort_into(place, sorting(), folder=photos, how=how)
    before = {path: path.lstat().st_ino for path in place.glob("*/*")}
    done = sort_into(place, sorting(), folder=photos, how=how)
    assert (done.placed, done.unchanged) == (0, 5)
    assert {path: path.lstat().st_ino for path in place.glob("*/*")} == before


@pytest.mark.parametrize("how", ["copy", "link"])
def test_again_with_other_clusters_moves_what_has_to_move(photos, tmp_path: Path, how) -> None:
    place = tmp_path / "sorted"
    sort_into(place, sorting(), folder=photos, how=how)
    other = {"a/1.png": 1, "b/1.png": 0, "b/2.png": 1, "3.png": 1, "c/1.PNG": 1}
    done = sort_into(place, sorting(other), folder=photos, how=how)
    assert tree(place) == {
        "cluster-0/1.png": "b/1.png",
        "cluster-1/1.png": "a/1.png",
        "cluster-1/1-2.PNG": "c/1.PNG",
        "cluster-1/2.png": "b/2.png",
        "cluster-1/3.png": "3.png",
    }
    assert (done.placed, done.unchanged, done.kept) == (3, 2, ())
    sort_into(place, sorting(dict.fromkeys(CLUSTERS, 0), k=1), folder=photos, how=how)
    assert sorted(tree(place).values()) == sorted(CLUSTERS)
    assert [path.name for path in place.iterdir() if path.is_dir()] == ["cluster-0"]


def test_links_after_copies_and_copies_after_links(photos: Path, tmp_path: Path) -> None:
    place = tmp_path / "sorted"
    for how in ("copy", "link", "copy"):
        done = sort_into(place, sorting(), folder=photos, how=how)  # type: ignore[arg-type]
        assert done.placed == 5
        assert tree(place) == EXPECTED
        assert (place / "cluster-1" / "3.png").is_symlink() == (how == "link")
    assert tree(photos) == {name: name for name in CLUSTERS}


def test_names_of_clusters_are_names_of_folders(photos: Path, tmp_path: Path) -> None:
    names = ["../../cat: a/b?", "sitzt 🐈 còn", "é" * 300]
    done = sort_into(
        tmp_path / "s", sorting({"3.png": 0, "a/1.png": 1, "b/2.png": 2}, names), folder=photos
    )
    assert done.folders[:2] == ("0-______cat_ a_b_", "1-sitzt _ còn")
    assert sorted(tree(tmp_path / "s").values()) == ["3.png", "a/1.png", "b/2.png"]
    assert sort_into(tmp_path / "t", sorting(k=12), folder=photos).folders[:2] == (
        "cluster-00", "cluster-01"
    )  # fmt: skip


def test_long_and_odd_names(photos: Path, tmp_path: Path) -> None:
    long, odd = "é" * 125 + ".png", os.fsdecode(b"\xff \n'\".png")
    for name in (long, f"a/{long}", odd, f"a/{odd}"):
        (photos / name).write_text(name.encode(errors="replace").decode())
    names = {long: 0, f"a/{long}": 0, odd: 0, f"a/{odd}": 0}
    done = sort_into(tmp_path / "s", sorting(names), folder=photos)
    assert done.placed == len(list((tmp_path / "s" / "cluster-0").iterdir())) == 4
    assert sort_into(tmp_path / "s", sorting(names), folder=photos).unchanged == 4


def test_what_is_not_ours_is_left_alone(photos: Path, tmp_path: Path) -> None:
    place = tmp_path / "sorted"
    sort_into(place, sorting(), folder=photos)
    (place / "cluster-1" / "notes.txt").write_text("mine")
    (place / "cluster-1" / "3.png").write_text("painted over")
    (photos / "a/1.png").write_text("a new version")
    (photos / "b/2.png").unlink()
    done = sort_into(place, sorting(), folder=photos)
    assert done.missing == ("b/2.png",)
    assert sorted(done.kept) == ["cluster-0/1.png", "cluster-1/2.png", "cluster-1/3.png"]
    found = tree(place)
    assert found["cluster-1/notes.txt"] == "mine"
    assert found["cluster-1/3.png"] == "painted over"
    assert found["cluster-1/3-2.png"] == "3.png"
    assert found["cluster-1/2.png"] == "b/2.png"  # the only copy that there is
    assert found["cluster-0/1.png"] == "a/1.png"  # of the old version
    assert "a new version" in found.values()
    again = sort_into(place, sorting(), folder=photos)
    assert (again.placed, sorted(again.kept)) == (0, sorted(done.kept))
    assert tree(place) == found


def test_a_link_that_leads_elsewhere_and_a_name_in_capitals_are_not_ours(photos, tmp_path) -> None:
    place = tmp_path / "sorted"
    sort_into(place, sorting(), folder=photos, how="link")
    (tmp_path / "mine").write_text("mine")
    link = place / "cluster-1" / "3.png"
    link.unlink()
    link.symlink_to(tmp_path / "mine")
    (place / "cluster-1" / "2.png").rename(place / "cluster-1" / "2.PNG")
    done = sort_into(place, sorting(), folder=photos, how="link")
    assert done.kept == ("cluster-1/3.png",)
    found = tree(place)
    assert found["cluster-1/3.png"] == "mine"
    assert found["cluster-1/3-2.png"] == "3.png"
    assert found["cluster-1/2-2.png"] == "b/2.png"  # 2.PNG and 2.png are one on other systems


def test_a_copy_with_another_time_is_still_a_copy(photos: Path, tmp_path: Path) -> None:
    sort_into(tmp_path / "sorted", sorting(), folder=photos)
    os.utime(photos / "3.png", (1e9, 1e9))
    done = sort_into(tmp_path / "sorted", sorting(), folder=photos)
    assert (done.placed, done.kept) == (0, ())


@pytest.mark.parametrize("place", ["photos", "photos/sorted", "photos/a", "link/sorted", "."])
def test_one_folder_in_the_other_is_refused(photos: Path, tmp_path: Path, place: str) -> None:
    (tmp_path / "link").symlink_to(photos)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(InputError, match="one lies in the other"):
        sort_into(tmp_path / place, sorting(), folder=photos)
    assert sorted(tmp_path.rglob("*")) == before


def test_a_folder_of_somebody_else_is_refused(photos: Path, tmp_path: Path) -> None:
    place = tmp_path / "mine"
    place.mkdir()
    (place / ".DS_Store").touch()  # which some systems put into every folder
    sort_into(place, sorting(), folder=photos)
    (place / LIST).unlink()
    before = tree(place)
    with pytest.raises(InputError, match="holds something else"):
        sort_into(place, sorting(), folder=photos)
    assert tree(place) == before
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="is a file"):
        sort_into(tmp_path / "file", sorting(), folder=photos)
    with pytest.raises(InputError, match="is not there"):
        sort_into(tmp_path / "new", sorting(), folder=tmp_path / "nowhere")
    with pytest.raises(InputError, match="'move'"):
        sort_into(tmp_path / "new", sorting(), folder=photos, how="move")  # type: ignore[arg-type]
    assert not (tmp_path / "new").exists()


def test_a_folder_of_other_pictures_is_refused(photos: Path, tmp_path: Path) -> None:
    sort_into(tmp_path / "sorted", sorting(), folder=photos)
    shutil.copytree(photos, tmp_path / "others")
    with pytest.raises(InputError, match="holds pictures of"):
        sort_into(tmp_path / "sorted", sorting(), folder=tmp_path / "others")


@pytest.mark.parametrize(
    "content", ["{", "[]", '{"folder": 1}', '{"folder": "", "files": {"../../x": "y"}}']
)
def test_a_damaged_list_is_refused(photos: Path, tmp_path: Path, content: str) -> None:
    sort_into(tmp_path / "sorted", sorting(), folder=photos)
    (tmp_path / "sorted" / LIST).write_text(content)
    with pytest.raises(InputError, match=r"damaged|cannot read"):
        sort_into(tmp_path / "sorted", sorting(), folder=photos)


def fail(code: int):
    def failing(*_, **__):
        raise OSError(code, os.strerror(code))

    return failing


def test_a_full_disk_is_one_line_and_the_next_call_goes_on(photos, tmp_path, monkeypatch) -> None:
    place, copyfile, copied = tmp_path / "sorted", shutil.copyfile, []

    def filling(source, target):
        copied.append(source)
        if len(copied) == 3:
            Path(target).write_text("half")
            fail(errno.ENOSPC)()
        return copyfile(source, target)

    monkeypatch.setattr("shutil.copyfile", filling)
    with pytest.raises(InputError, match="No space left on device; 2 of 5 pictures") as caught:
        sort_into(place, sorting(), folder=photos)
    assert "\n" not in str(caught.value)
    assert tree(place).items() <= EXPECTED.items()
    assert list(place.rglob("*.unfinished")) == []
    done = sort_into(place, sorting(), folder=photos)
    assert (done.placed, done.unchanged) == (3, 2)
    assert tree(place) == EXPECTED
    assert list(place.rglob("*.unfinished")) == []


@pytest.mark.parametrize("code", [errno.EPERM, errno.ENOSYS])
def test_a_file_system_without_links_is_one_line(photos, tmp_path, monkeypatch, code) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("os.symlink", fail(code))
        with pytest.raises(InputError, match="seems to have no links: choose copies") as caught:
            sort_into(tmp_path / "sorted", sorting(), folder=photos, how="link")
    assert "\n" not in str(caught.value)
    sort_into(tmp_path / "sorted", sorting(), folder=photos, how="copy")
    assert tree(tmp_path / "sorted") == EXPECTED


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGKILL")
def test_killed_at_any_moment_it_goes_on(tmp_path: Path) -> None:
    photos, place, names = tmp_path / "photos", tmp_path / "sorted", tmp_path / "names.json"
    photos.mkdir()
    clusters = {f"{i}.png": i % 3 for i in range(600)}
    for name in clusters:
        (photos / name).write_text(name * 3000)
    names.write_text(json.dumps(clusters))
    script = (
        "import json, sys; from pathlib import Path; from mixem.sorting import sort_into, table\n"
        "photos, place, names = map(Path, sys.argv[1:])\n"
        "clusters = json.loads(names.read_text())\n"
        "away = [[float(c != own) for c in range(3)] for own in clusters.values()]\n"
        "print('go', flush=True)\n"
        "sort_into(place, table(list(clusters), distances=away), folder=photos)\n"
    )

    def count() -> int:
        return len(list(place.glob("*/*.png")))

    killed = 0
    for wanted in (1, 250):
        process = subprocess.Popen(
            [sys.executable, "-c", script, str(photos), str(place), str(names)],
            stdout=subprocess.PIPE,
        )
        assert process.stdout is not None
        process.stdout.readline()
        while process.poll() is None and count() < wanted:
            time.sleep(0.0005)
        process.send_signal(signal.SIGKILL)
        killed += process.wait() == -signal.SIGKILL
        process.stdout.close()
        assert all(
            path.read_text() == path.name * 3000 for path in place.glob("*/*.png")
        )  # whole, or not there
    assert killed
    done = sort_into(place, sorting(clusters), folder=photos)
    assert done.placed + done.unchanged == count() == 600
    assert done.kept == done.missing == ()
    assert sorted(path.name for path in place.iterdir()) == [
        LIST, "cluster-0", "cluster-1", "cluster-2"
    ]  # fmt: skip
