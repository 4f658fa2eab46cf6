"""The fingerprint of the code, the machine in words, the versions."""

import shutil
from pathlib import Path

import torch

from mixem import fingerprint as module
from mixem.fingerprint import hardware, source_fingerprint, versions


def test_the_source_fingerprint_sees_every_file_a_run_depends_on(tmp_path, monkeypatch):
    package = tmp_path / "mixem"
    source = Path(module.__file__).parent
    shutil.copytree(source, package, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(module, "__file__", str(package / "fingerprint.py"))
    fingerprint = source_fingerprint.__wrapped__
    plain = fingerprint()
    assert plain == source_fingerprint()
    seen = {plain}
    for part in (
        "losses/nt_xent.py", "training/loop.py", "data/augment.py", "models/heads.py", "scoring.py",
        "clustering/__init__.py",
    ):  # fmt: skip
        with (package / part).open("a") as file:
            file.write("# changed\n")
        seen.add(fingerprint())
    assert len(seen) == 7
    with (package / "cli.py").open("a") as file:
        file.write("# of no consequence for a run\n")
    assert fingerprint() in seen


def test_the_machine_in_words():
    threads = torch.get_num_threads()
    assert hardware("cpu").endswith(f", {threads} threads")
    assert hardware("cpu", 4) == f"4 processes: {hardware('cpu')}"


def test_the_versions_of_what_a_number_depends_on():
    found = versions()
    assert (found["torch"], "cuda" in found) == (torch.__version__, torch.cuda.is_available())
    assert all(isinstance(version, str) and version for version in found.values())
