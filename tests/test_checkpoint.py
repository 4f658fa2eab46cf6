"""Files are whole or absent, and loading runs nothing."""

import filecmp
import json
import os
import pickle
import stat
import subprocess
import sys
import textwrap

import pytest
import torch
from torch import nn

from mixem.checkpoint import (
    load_checkpoint,
    load_weights,
    read_json,
    save_checkpoint,
    save_weights,
    write_atomically,
    write_json,
)
from mixem.errors import InputError


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def state_of(module):
    return {"weights": module.state_dict(), "step": 3, "history": "[]"}


def test_a_checkpoint_comes_back_as_it_was(tmp_path):
    torch.manual_seed(0)
    module = nn.Linear(3, 2)
    optimiser = torch.optim.Adam(module.parameters())
    module(torch.ones(1, 3)).sum().backward()
    optimiser.step()
    file = tmp_path / "new" / "checkpoint.pt"
    save_checkpoint(file, {"optimiser": optimiser.state_dict(), **state_of(module)})
    state = load_checkpoint(file)
    assert (state["step"], state["history"]) == (3, "[]")
    assert torch.equal(state["weights"]["weight"], module.weight)
    moments = optimiser.state_dict()["state"][0]["exp_avg"]
    assert torch.equal(state["optimiser"]["state"][0]["exp_avg"], moments)
    assert names(file.parent) == ["checkpoint.pt"]


def test_weights_come_back_bit_for_bit_and_the_same_weights_give_the_same_file(tmp_path):
    torch.manual_seed(0)
    module, other = (nn.Conv2d(3, 4, 3).to(memory_format=torch.channels_last) for _ in range(2))
    save_weights(tmp_path / "a", module)
    load_weights(tmp_path / "a", other)
    assert torch.equal(module.weight, other.weight)
    save_weights(tmp_path / "b", other)
    assert filecmp.cmp(tmp_path / "a", tmp_path / "b", shallow=False)


class Stopped(Exception):
    pass


@pytest.mark.parametrize("moment", ["before", "in the middle"])
def test_an_exception_leaves_the_old_file_and_nothing_else(tmp_path, moment):
    file = tmp_path / "file"
    file.write_text("old")

    def write(path):
        if moment == "in the middle":
            path.write_text("ne")
        raise Stopped

    with pytest.raises(Stopped):
        write_atomically(file, write)
    assert file.read_text() == "old"
    assert names(tmp_path) == ["file"]


def test_readers_see_the_old_file_until_the_new_one_is_whole(tmp_path):
    file = tmp_path / "file"
    file.write_text("old")

    def write(path):
        path.write_text("new")
        assert file.read_text() == "old"

    write_atomically(file, write)
    assert file.read_text() == "new"


@pytest.mark.skipif(os.name == "nt", reason="Windows has no umask to speak of")
@pytest.mark.parametrize("umask", [0o022, 0o027, 0o002])
def test_files_have_the_rights_the_umask_gives(tmp_path, umask):
    module = nn.Linear(2, 2)
    before = os.umask(umask)
    try:
        save_checkpoint(tmp_path / "checkpoint.pt", state_of(module))
        save_weights(tmp_path / "model.safetensors", module)
        write_json(tmp_path / "record.json", {})
    finally:
        os.umask(before)
    for file in tmp_path.iterdir():
        assert stat.S_IMODE(file.stat().st_mode) == 0o666 & ~umask, file.name


class Malicious:
    """Unpickling this writes a file."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return (exec, (f"open({self.path!r}, 'w').close()",))


def test_loading_runs_nothing(tmp_path):
    trap, file = tmp_path / "trap", tmp_path / "checkpoint.pt"
    torch.save({"state": Malicious(trap)}, file)
    # The trap works: with the old way of loading it would be sprung.
    torch.load(file, weights_only=False)
    assert trap.exists()
    trap.unlink()
    with pytest.raises(InputError, match="cannot read"):
        load_checkpoint(file)
    file.write_bytes(pickle.dumps(Malicious(trap)))
    with pytest.raises(InputError, match="cannot read"):
        load_checkpoint(file)
    with pytest.raises(InputError, match="cannot read"):
        load_weights(file, nn.Linear(2, 2))
    assert not trap.exists()


def assert_one_line(error):
    assert str(error.value).isprintable()
    assert len(str(error.value)) < 600


def test_truncated_files_are_errors_of_one_line(tmp_path):
    module = nn.Linear(3, 2)
    save_checkpoint(tmp_path / "c", state_of(module))
    save_weights(tmp_path / "w", module)
    for name, load in (("c", load_checkpoint), ("w", lambda file: load_weights(file, module))):
        whole = (tmp_path / name).read_bytes()
        for length in {0, 1, len(whole) - 1, *range(0, len(whole), 97)}:
            (tmp_path / name).write_bytes(whole[:length])
            with pytest.raises(InputError, match="cannot read") as error:
                load(tmp_path / name)
            assert_one_line(error)


def test_a_damaged_checkpoint_is_an_error_or_loads_but_nothing_else(tmp_path):
    file = tmp_path / "c"
    save_checkpoint(file, state_of(nn.Linear(3, 2)))
    whole = file.read_bytes()
    start = whole.index(b"data.pkl")
    messages = []
    for place in range(start, start + 300, 3):
        damaged = bytearray(whole)
        damaged[place] ^= 0xFF
        file.write_bytes(damaged)
        try:
            load_checkpoint(file)
        except InputError as error:
            messages.append(str(error))
    assert len(messages) > 50
    assert all(message.isprintable() for message in messages)


def test_other_files_are_refused(tmp_path):
    module = nn.Linear(2, 2)
    torch.save(torch.zeros(3), tmp_path / "tensor.pt")
    with pytest.raises(InputError, match="not a checkpoint"):
        load_checkpoint(tmp_path / "tensor.pt")
    for load in (load_checkpoint, lambda file: load_weights(file, module)):
        for place in (tmp_path / "missing", tmp_path):
            with pytest.raises(InputError, match="cannot read") as error:
                load(place)
            assert_one_line(error)


@pytest.mark.parametrize(
    "other", [nn.Linear(2, 3), nn.Conv2d(2, 2, 1), nn.Linear(2, 2, bias=False)]
)
def test_weights_of_another_network_are_refused_and_not_taken_in_part(tmp_path, other):
    save_weights(tmp_path / "w", other)
    module = nn.Linear(2, 2)
    with pytest.raises(InputError, match="another network") as error:
        load_weights(tmp_path / "w", module)
    assert_one_line(error)


@pytest.mark.skipif(os.name == "nt", reason="sets a limit that Windows does not have")
def test_a_full_disk_leaves_the_old_files(tmp_path):
    script = textwrap.dedent("""
        import resource, signal, sys
        from pathlib import Path
        from torch import nn
        from mixem.checkpoint import save_checkpoint, save_weights, write_json
        from mixem.errors import InputError

        folder, module = Path(sys.argv[1]), nn.Linear(100, 100)
        state = {"weights": module.state_dict()}
        writes = {
            "c": lambda size: save_checkpoint(folder / "c", {"weights": module.state_dict()}),
            "w": lambda size: save_weights(folder / "w", module),
            "j": lambda size: write_json(folder / "j", [0] * size),
        }
        for write in writes.values():
            write(10)
        old = {name: (folder / name).read_bytes() for name in writes}
        module = nn.Linear(200, 200)
        # Beyond this many bytes a write fails as on a full disk.
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))
        for name, write in writes.items():
            try:
                write(50_000)
            except InputError as error:
                assert str(error).isprintable() and "free some space" in str(error), error
            else:
                raise SystemExit(f"{name} was written")
            assert (folder / name).read_bytes() == old[name], name
        assert sorted(path.name for path in folder.iterdir()) == sorted(writes)
        print("held")
    """)
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert (done.stdout, done.stderr) == ("held\n", "")


def test_a_folder_that_cannot_be(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot write") as error:
        write_json(tmp_path / "file" / "below" / "record.json", {})
    assert_one_line(error)
    with pytest.raises(InputError, match="cannot write"):
        write_json(tmp_path, {})  # a folder is in the file's place
    assert names(tmp_path) == ["file"]


def test_json_comes_back_and_holds_no_nan(tmp_path):
    value = {"a": [0.1, 1e-300, "ä"], "b": None}
    write_json(tmp_path / "j", value)
    assert read_json(tmp_path / "j") == value
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "j", [float("nan")])
    assert json.loads((tmp_path / "j").read_text("utf-8")) == value


@pytest.mark.parametrize("content", [b"", b'{"a": ', b"\xff\xfe", b"not json"])
def test_files_that_are_not_json(tmp_path, content):
    (tmp_path / "j").write_bytes(content)
    with pytest.raises(InputError, match="cannot read") as error:
        read_json(tmp_path / "j")
    assert_one_line(error)


def test_missing_json(tmp_path):
    with pytest.raises(InputError, match="there is no"):
        read_json(tmp_path / "j")
    with pytest.raises(InputError, match="cannot read"):
        read_json(tmp_path)


def test_one_changed_bit_of_a_checkpoint_is_noticed(tmp_path):
    """PyTorch itself loads it, and the training would go on with other weights."""
    path = tmp_path / "checkpoint.pt"
    save_checkpoint(path, {"weights": torch.zeros(1000)})
    whole = path.read_bytes()
    place = whole.index(bytes(2000)) + 1000
    path.write_bytes(whole[:place] + bytes([8]) + whole[place + 1 :])
    with pytest.raises(InputError, match="in it is damaged; delete it to start anew"):
        load_checkpoint(path)
    path.write_bytes(whole)
    assert load_checkpoint(path)["weights"].sum() == 0


def test_a_link_stays_a_link_and_what_is_no_file_is_written_to(tmp_path):
    (tmp_path / "target.csv").touch()
    (tmp_path / "link.csv").symlink_to(tmp_path / "target.csv")
    write_atomically(tmp_path / "link.csv", lambda file: file.write_text("new"))
    assert (tmp_path / "link.csv").is_symlink()
    assert (tmp_path / "target.csv").read_text() == "new"
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    write_atomically(pipe, lambda file: file.write_text("through"))
    assert os.read(reader, 100) == b"through"
    os.close(reader)
    assert pipe.is_fifo()


def test_json_without_a_bottom_is_refused(tmp_path):
    (tmp_path / "deep.json").write_text("[" * 200_000)
    with pytest.raises(InputError, match="restore or delete it"):
        read_json(tmp_path / "deep.json")
