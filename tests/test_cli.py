"""The command line: what each command does, and what is said when it cannot."""

import csv
import dataclasses
import filecmp
import io
import json
import os
import re
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import mixem
from mixem.checkpoint import load_checkpoint
from mixem.cli import main
from mixem.data import load_images
from mixem.experiments import EXPERIMENTS
from mixem.methods import extract
from mixem.records import write_record

# digits/simclr made small; `tiny` of conftest.py in the words of the command line.
SMALL = [
    "--set=views.size=8",
    "--set=training.epochs=2",
    "--set=training.batch_size=599",
    "--set=protocol.n_init=2",
    "--device=cpu",
    "--quiet",
]


@pytest.fixture
def command(capsys):
    """Runs a command; returns its exit code, what it printed and what it complained of."""

    def call(*arguments):
        try:
            code = main([str(argument) for argument in arguments])
        except SystemExit as end:  # argparse's way of ending
            code = end.code
        printed, complaints = capsys.readouterr()
        return code, printed, complaints

    return call


def rows_of(text):
    return list(csv.DictReader(io.StringIO(text)))


@pytest.fixture
def pictures(tmp_path):
    """Good pictures of odd kinds, and two files that are none."""
    folder = tmp_path / "pictures"
    (folder / "deep").mkdir(parents=True)
    pixels = np.random.default_rng(0).integers(0, 255, (20, 30, 3)).astype(np.uint8)
    colour = Image.fromarray(pixels)
    colour.convert("L").save(folder / "grey.png")
    colour.convert("CMYK").save(folder / "cmyk.jpg")
    colour.crop((0, 0, 1, 1)).save(folder / "pixel.png")
    colour.save(folder / "deep" / "ünïcode, with comma.webp")
    colour.save(folder / "truncated.jpg")
    whole = (folder / "truncated.jpg").read_bytes()
    (folder / "truncated.jpg").write_bytes(whole[: len(whole) // 2])
    (folder / "text.png").write_text("this is not a picture")
    (folder / "notes.txt").write_text("passed over")
    return folder


GOOD = ["cmyk.jpg", "deep/ünïcode, with comma.webp", "grey.png", "pixel.png"]


def test_list(command):
    code, printed, complaints = command("list")
    assert (code, complaints) == (0, "")
    assert [line.split()[0] for line in printed.splitlines()[2:]] == list(EXPERIMENTS)


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_list_one(command, name, monkeypatch):
    monkeypatch.chdir(Path(__file__).parents[1])
    code, printed, _ = command("list", name)
    assert code == 0
    table, _, expected = printed.partition("\n\n")
    settings = [line.split()[0] for line in table.splitlines()[2:]]
    assert settings == list(EXPERIMENTS[name].values())
    of_the_book = Path(__file__).parents[1] / "results" / name.replace("/", "-")
    assert bool(expected) == any(of_the_book.glob("seed-*.json"))
    if expected:
        assert re.fullmatch(r"\d+ seeds?: accuracy [\d.]+( ± [\d.]+)? %, .* minutes .*\n", expected)


def test_train_evaluate_and_again(command, tmp_path):
    out = tmp_path / "run"
    train = ["train", "digits/simclr", "--seed=1", f"--out={out}", *SMALL]
    code, printed, complaints = command(*train, f"--results={tmp_path / 'results'}")
    assert (code, complaints) == (0, "")
    record = json.loads((out / "record.json").read_text())
    assert record["overrides"] == {
        "views.size": 8,
        "training.epochs": 2,
        "training.batch_size": 599,
        "protocol.n_init": 2,
    }
    scores = record["protocols"][0]["scores"]
    accuracy = f"accuracy {scores['accuracy']:.4f}"
    assert f"digits/simclr, seed 1: complete, in {out}" in printed
    assert accuracy in printed
    (saved,) = (tmp_path / "results").rglob("*.json")
    assert json.loads(saved.read_text()) == record
    assert f"record: {saved}" in printed

    before = (out / "record.json").stat().st_mtime_ns
    code, printed, _ = command(*train)
    assert code == 0
    assert "complete" in printed
    assert accuracy in printed
    assert (out / "record.json").stat().st_mtime_ns == before


def test_train_stops_after_its_minutes_and_goes_on(command, tmp_path, tiny_run):
    out = tmp_path / "run"
    train = ["train", "digits/simclr", "--seed=1", f"--out={out}", *SMALL]
    code, printed, _ = command(*train, "--max-minutes=0")
    assert (code, printed) == (3, "not finished: give the same command to go on\n")
    assert load_checkpoint(out / "checkpoint.pt")["step"] == 3
    for unfinished in (["evaluate", out], ["predict", out, tmp_path]):
        code, _, complaints = command(*unfinished)
        assert code == 2
        assert "is not finished; give its training command again" in complaints
    code, printed, _ = command(*train)
    assert code == 0
    weights = [folder / "model.safetensors" for folder in (out, tiny_run.folder)]
    assert filecmp.cmp(*weights, shallow=False)


@pytest.mark.filterwarnings("always:.*cannot be read")
def test_train_on_a_folder_of_ones_own(command, pictures, tmp_path):
    out = tmp_path / "run"
    code, printed, complaints = command(
        "train", "digits/mixem", f"--images=folder:{pictures}", "--clusters=2", f"--out={out}",
        *SMALL, "--set=start=None", "--set=training.epochs=1", "--set=settings.components=2",
    )  # fmt: skip
    assert code == 0
    (line,) = complaints.splitlines()
    assert line.startswith(f"mixem: 2 of 6 files in folder:{pictures} cannot be read")
    assert json.loads((out / "record.json").read_text())["data"]["skipped_files"] == 2
    # One sub-folder is no class.
    assert "no labels to score" in printed
    code, printed, _ = command(
        "predict", out, pictures, f"--data={tmp_path / 'cache'}", "--device=cpu"
    )
    assert code == 0
    assert sorted(row["file"] for row in rows_of(printed)) == GOOD
    code, _, complaints = command("predict", out, pictures, "--device=nonsense")
    assert (code, complaints.count("\n")) == (2, 1)
    assert "no device 'nonsense'" in complaints


@pytest.mark.parametrize(
    ("error", "advice"),
    [
        (torch.cuda.OutOfMemoryError("CUDA out of memory"), "give --device cpu"),
        (MemoryError(), "give fewer pictures"),
        (RuntimeError("can't start new thread"), "give fewer pictures"),
    ],
)
def test_a_full_memory_is_one_line(command, monkeypatch, error, advice):
    def full(*_, **__):
        raise error

    monkeypatch.setattr("mixem.runs.run", full)
    code, _, complaints = command("train", "digits/simclr")
    assert (code, complaints.count("\n")) == (2, 1)
    assert "--set training.accumulate=2" in complaints
    monkeypatch.setattr("mixem.runs.load_run", full)
    code, _, complaints = command("predict", "run", "photos")
    assert (code, complaints.count("\n")) == (2, 1)
    assert advice in complaints


@pytest.mark.parametrize(
    "words",
    [
        ("train", "digits/simclr", "--set", "settings.embedding_size=10000000000000"),
        ("profile", "digits/iic", "--set", "settings.over_clusters=100000000000"),
    ],
)
def test_the_memory_of_the_machine_is_one_line_too(command, tmp_path, words):
    # No machine has so much: PyTorch's allocator refuses at once, with a plain RuntimeError.
    code, _, complaints = command(*words, "--device=cpu")
    assert (code, complaints.count("\n")) == (2, 1)
    assert complaints.startswith("mixem: the memory is full; ")
    assert "you tried to allocate" in complaints


def test_other_errors_of_pytorch_are_no_full_memory(monkeypatch):
    def wrong(*_, **__):
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    monkeypatch.setattr("mixem.runs.load_run", wrong)
    with pytest.raises(RuntimeError, match="mat1"):
        main(["predict", "run", "photos"])


def test_train_without_labels(command, tmp_path):
    (tmp_path / "flat").mkdir()
    for number in range(4):
        Image.new("RGB", (9, 9), (number * 60, 0, 0)).save(tmp_path / "flat" / f"{number}.png")
    train = [
        "train", "digits/simclr", f"--images=folder:{tmp_path / 'flat'}", "--clusters=2",
        f"--out={tmp_path / 'run'}", *SMALL,
    ]  # fmt: skip
    code, printed, _ = command(*train)
    assert code == 0
    assert "of 2 clusters used; no labels to score" in printed
    code, _, complaints = command("evaluate", tmp_path / "run")
    assert code == 2
    assert "has no labels to score; mixem predict needs none" in complaints


def test_evaluate_repeats_the_record(command, tiny_run):
    code, printed, complaints = command("evaluate", tiny_run.folder)
    assert (code, complaints) == (0, "")
    first, head, _, *rows = printed.splitlines()
    assert first == "digits, train+test: 1797 images; the first row is the main protocol"
    assert head.split()[-3:] == ["accuracy", "nmi", "ari"]
    expected = [
        [f"{row.scores[name]:.4f}" for name in ("accuracy", "nmi", "ari")]
        for row in tiny_run.record.protocols
    ]
    assert [row.split()[-3:] for row in rows] == expected


def test_evaluate_fits_where_the_experiment_does(command, tmp_path):
    out = tmp_path / "run"
    splits = ["--set=train_split=train", "--set=test_split=test", "--set=protocol.fit_split=train"]
    assert command("train", "digits/simclr", f"--out={out}", *SMALL, *splits)[0] == 0
    record = json.loads((out / "record.json").read_text())
    _, printed, _ = command("evaluate", out)
    assert printed.startswith("digits, test: 500 images")
    assert (
        printed.splitlines()[3].split()[-3] == f"{record['protocols'][0]['scores']['accuracy']:.4f}"
    )


def test_evaluate_other_images(command, tiny_run, tmp_path):
    digits = load_images("digits", split="test")
    for number, (image, label) in enumerate(zip(digits.images[:60], digits.labels, strict=False)):
        place = tmp_path / "own" / str(label.item())
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image[0].numpy()).save(place / f"{number}.png")
    code, printed, _ = command("evaluate", tiny_run.folder, f"--images=folder:{tmp_path / 'own'}")
    assert code == 0
    assert ", all: 60 images" in printed
    code, printed, _ = command("evaluate", tiny_run.folder, "--images=digits", "--split=test")
    assert printed.startswith("digits, test: 500 images")


def test_predict(command, tiny_run, pictures, tmp_path):
    code, printed, complaints = command("predict", tiny_run.folder, pictures)
    assert code == 0
    rows = rows_of(printed)
    assert sorted(row["file"] for row in rows) == GOOD
    assert all(row["cluster"] in map(str, range(10)) for row in rows)
    assert all(float(row["margin"]) >= 0 and float(row["distance"]) >= 0 for row in rows)
    assert all(row["second"] != row["cluster"] for row in rows)
    assert "1" in {row["rank"] for row in rows}
    skipped = [line for line in complaints.splitlines() if line.startswith("mixem: skipped")]
    assert [line.split()[2] for line in skipped] == ["text.png:", "truncated.jpg:"]
    assert complaints.splitlines()[-1] == "mixem: 4 pictures sorted, 2 skipped"

    out = tmp_path / "new" / "clusters.csv"
    code, nothing, _ = command("predict", tiny_run.folder, pictures, f"--out={out}")
    assert (code, nothing) == (0, "")
    assert out.read_text(encoding="utf-8") == printed


def test_pictures_above_the_limit_can_be_allowed(command, tiny_run, tmp_path, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 2000)  # instead of Pillow's 89 million
    Image.new("L", (20, 20)).save(tmp_path / "a.png")
    Image.new("L", (60, 50)).save(tmp_path / "b.png")
    arguments = ("predict", tiny_run.folder, tmp_path)
    _, printed, complaints = command(*arguments)
    assert "b.png" not in printed
    advice = complaints.split("allow it with ")[1].split("\n")[0]
    assert advice == "--max-pixels 3000"
    _, printed, complaints = command(*arguments, *advice.split())
    assert "b.png" in printed
    assert "2 pictures sorted, 0 skipped" in complaints
    code, _, complaints = command(*arguments, "--max-pixels", "0")
    assert (code, complaints) == (
        2,
        "mixem: argument --max-pixels: '0'; give a whole number from 1 on; see mixem predict "
        "--help\n",
    )


@pytest.mark.parametrize(
    "name", ["train", "profile", "evaluate", "predict", "sort", "embed", "choose-k", "map"]
)
def test_each_command_that_reads_folders_can_allow_large_pictures(command, name):
    assert "--max-pixels N" in command(name, "--help")[1]


def test_predictions_are_the_clusters_of_the_run(command, tiny_run, tmp_path):
    digits = load_images("digits", split="train+test").subset(slice(20))
    for number, image in enumerate(digits.images):
        Image.fromarray(image[0].numpy()).save(tmp_path / f"{number:02}.png")
    _, printed, _ = command("predict", tiny_run.folder, tmp_path)
    p = extract(tiny_run.method, digits.images, "cluster")
    away = extract(tiny_run.method, digits.images, "distances").sort(1).values
    rows = rows_of(printed)
    assert [int(row["cluster"]) for row in rows] == p.argmax(1).tolist()
    assert [float(row["distance"]) for row in rows] == pytest.approx(away[:, 0].tolist(), abs=1e-5)
    margins = (away[:, 1] - away[:, 0]).tolist()
    assert [float(row["margin"]) for row in rows] == pytest.approx(margins, abs=1e-5)


@pytest.mark.skipif(sys.platform != "linux", reason="other systems refuse such names")
def test_predict_of_a_name_that_is_not_utf8(command, tiny_run, tmp_path):
    folder = tmp_path / "pictures"
    folder.mkdir()
    Image.new("L", (8, 8)).save(folder / "plain.png")
    (folder / "plain.png").rename(os.fsdecode(os.fsencode(folder) + b"/\xe4.png"))
    out = tmp_path / "clusters.csv"
    assert command("predict", tiny_run.folder, folder, f"--out={out}")[0] == 0
    assert out.read_bytes().startswith(
        b'"file","cluster","second","margin","rank","distance"\n"\xe4.png",'
    )
    done = subprocess.run(
        [sys.executable, "-m", "mixem", "predict", tiny_run.folder, folder],
        stdout=subprocess.PIPE,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, out.read_bytes())


def test_tables(command, tiny_run, tmp_path):
    record = tiny_run.record
    results = tmp_path / "results"
    results.mkdir()
    for name, changes in (("a", {"overrides": {}}), ("b", {"overrides": {}, "seed": 2}), ("c", {})):
        write_record(results / f"{name}.json", dataclasses.replace(record, **changes))
    code, printed, _ = command("tables", f"--results={results}")
    assert code == 0
    main_table, changed = printed.split("\nWith changed settings:\n")
    lines = {line.split()[0]: line.split() for line in main_table.splitlines()}
    accuracy = f"{100 * record.metrics['accuracy']:.1f}"
    assert lines["digits/simclr"][1:6] == ["–", accuracy, "±", "0.0", "2"]
    assert lines["stl10/mixem"][1:4] == ["78", "not", "run"]
    assert set(EXPERIMENTS) <= set(lines)
    assert "size=8, epochs=2, batch_size=599, n_init=2" in changed
    code, printed, _ = command("tables", f"--results={results}", "--metric=nmi")
    assert f"{100 * record.metrics['nmi']:.1f}" in printed


def test_tables_of_nothing(command, tmp_path):
    code, printed, _ = command("tables", f"--results={tmp_path}")
    assert code == 0
    assert printed.count("not run") == len(EXPERIMENTS)


def test_tables_after_a_plain_installation(command, tmp_path, monkeypatch):
    """There is no folder of results; the papers' numbers are there all the same."""
    monkeypatch.chdir(tmp_path)
    code, printed, complaints = command("tables")
    assert (code, complaints) == (0, "")
    assert printed.count("not run") == len(EXPERIMENTS)
    assert "No records here: give --results" in printed


def test_a_changed_run_without_labels_is_in_the_tables(command, tiny_run, tmp_path):
    rows = tuple(dataclasses.replace(row, scores=None) for row in tiny_run.record.protocols)
    write_record(tmp_path / "r.json", dataclasses.replace(tiny_run.record, protocols=rows))
    code, printed, _ = command("tables", f"--results={tmp_path}")
    assert code == 0
    assert printed.splitlines()[-1].split()[-2:] == ["–", "1"]


TRAIN = ("train", "digits/simclr", *SMALL)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("list", "digit/simclr"), "no experiment 'digit/simclr'; did you mean 'digits/simclr'?"),
        (("train", "digits"), "there is no experiment 'digits'"),
        (("evaluate", "TMP/missing"), "there is no folder TMP/missing"),
        (("evaluate", "TMP/file"), "there is no folder TMP/file"),
        (("evaluate", "TMP"), "there is no TMP/config.json"),
        (("evaluate", "RUN", "--split=test"), "--split was given without --images"),
        (("evaluate", "RUN", "--images=digit"), "did you mean 'digits'"),
        (("evaluate", "RUN", "--images=digits", "--split=val"), "digits has no split 'val'"),
        (("evaluate", "RUN", "--images=folder:TMP/three"), "3 pictures for a run of 10 clusters"),
        (("evaluate", "RUN", "--images=cifar10", "--data=TMP"), "--download"),
        (("predict", "TMP/missing", "TMP"), "there is no folder TMP/missing"),
        (("predict", "RUN", "TMP/missing"), "'TMP/missing' does not exist"),
        (("predict", "RUN", "TMP/file"), "no picture could be read: file: not a picture"),
        (("predict", "RUN", "TMP/empty"), "no picture in"),
        (("predict", "RUN", "TMP/broken"), "none of the 1 pictures"),
        (("predict", "RUN", "TMP/three", "--out=TMP/file/x.csv"), "cannot write TMP/file/x.csv"),
        (("predict", "RUN", "TMP/three", "--out=TMP"), "cannot write TMP"),
        (("tables", "--results=TMP/missing"), "there is no folder TMP/missing"),
        ((*TRAIN, "--out=TMP/file"), "cannot write TMP/file/config.json"),
        ((*TRAIN, "--out=TMP/file/below"), "cannot write TMP/file/below/config.json"),
        ((*TRAIN, "--out=TMP/" + 300 * "x"), "File name too long"),
        ((*TRAIN, "--out=RUN"), "holds another run: seed is 1 there and 0 here"),
        (("verify", "TMP/missing"), "there is no TMP/missing; give records, or a folder of them"),
        (("verify", "TMP/file"), "cannot read TMP/file"),
        ((*TRAIN, "--out=TMP/o", "--set=views.mean=(0.5,)"), "std"),
        ((*TRAIN, "--out=TMP/o", "--clusters=1798"), "1798 clusters for 1797 images"),
        ((*TRAIN, "--out=TMP/o", "--clusters=0"), "--clusters: '0'; give a whole number from 1 on"),
        ((*TRAIN, "--out=TMP/o", "--set=training.epochs"), "has no '='"),
        ((*TRAIN, "--out=TMP/o", "--set=training.epoch=3"), "did you mean 'training.epochs'?"),
        ((*TRAIN, "--out=TMP/o", "--set=training.epochs=many"), "'many', of type str; give a int"),
        ((*TRAIN, "--out=TMP/o", "--set=training.epochs=0"), "epochs is 0; give at least 1"),
        ((*TRAIN, "--out=TMP/o", "--set=settings.temperature=0"), "give a positive number"),
        ((*TRAIN, "--out=TMP/o", "--set=backbone=vgg"), "no backbone 'vgg'; there are small"),
        ((*TRAIN, "--out=TMP/o", "--set=protocol.init=components"), "SimCLR has no components"),
        ((*TRAIN, "--out=TMP/o", "--split=test"), "--split was given without --images"),
        ((*TRAIN, "--out=TMP/o", "--images=TMP/three"), "give 'folder:TMP/three'"),
        ((*TRAIN, "--out=TMP/o", "--images=folder:TMP/missing"), "does not exist"),
        ((*TRAIN, "--out=TMP/o", "--images=stl10", "--data=TMP"), "--download"),
        (("train", "digits/iic", "--out=TMP/o", "--start=RUN"), "IIC begins from random weights"),
        ((*TRAIN, "--out=TMP/o", "--device=abacus"), "no device 'abacus' here"),
        ((*TRAIN, "--out=TMP/o", "--precision=int4"), "give auto, float32, bfloat16, float16"),
        ((*TRAIN, "--out=TMP/o", "--seed=-1"), "--seed: '-1'; give a whole number from 0 to"),
        ((*TRAIN, "--out=TMP/o", "--seed=one"), "--seed: 'one'; give a whole number from 0 to"),
        (("train",), "arguments are required: name; see mixem train --help"),
        (("trian", "digits/simclr"), "invalid choice: 'trian'"),
        (("train", "digits/simclr", "--epochs=3"), "unrecognized arguments: --epochs=3"),
        ((), "arguments are required: COMMAND"),
    ],
    ids=lambda value: " ".join(value[-2:])[:50] if isinstance(value, tuple) else "",
)  # fmt: skip
def test_mistakes_are_one_line_and_exit_code_2(command, tiny_run, tmp_path, arguments, message):
    (tmp_path / "file").write_text("")
    for name in ("empty", "broken", "three"):
        (tmp_path / name).mkdir()
    (tmp_path / "broken" / "a.png").write_text("no")
    for number in range(3):
        Image.new("L", (8, 8), number).save(tmp_path / "three" / f"{number}.png")
    places = {"TMP": str(tmp_path), "RUN": str(tiny_run.folder)}

    def fill(text):
        for name, place in places.items():
            text = text.replace(name, place)
        return text

    code, printed, complaints = command(*map(fill, arguments))
    assert code == 2
    assert printed == ""
    assert fill(message) in complaints
    assert complaints.startswith("mixem: ")
    assert complaints.count("\n") == 1
    assert complaints.endswith("\n")


def test_a_loss_that_is_not_finite_is_one_line(command, tmp_path):
    arguments = ["--set=training.learning_rate=1e30", "--set=training.epochs=1000"]
    with warnings.catch_warnings(action="ignore"):  # of a collapse on the way
        code, _, complaints = command(*TRAIN, f"--out={tmp_path / 'run'}", *arguments)
    assert code == 2
    assert complaints.startswith("mixem: the contrast term became nan in epoch")
    assert complaints.count("\n") == 1


def test_help_names_the_commands(command):
    code, printed, _ = command("--help")
    assert code == 0
    for name in ("list", "train", "profile", "evaluate", "predict", "verify", "tables"):
        assert name in printed


def test_the_version(command):
    assert command("--version") == (0, f"mixem {mixem.__version__}\n", "")


@pytest.mark.parametrize("option", ["--help", "--version", "train --help"])
def test_who_only_asks_does_not_wait_for_torch(option):
    script = (
        "import sys\nfrom mixem.cli import main\n"
        "try:\n    main(sys.argv[1:])\nexcept SystemExit as end:\n    assert end.code == 0\n"
        "slow = {'torch', 'torchvision', 'sklearn', 'matplotlib'} & set(sys.modules)\n"
        "assert not slow, slow\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, *option.split()], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout


def test_ctrl_c_is_no_traceback(command, monkeypatch, tmp_path):
    def interrupted(*args, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr("mixem.runs.run", interrupted)
    code, _, complaints = command(*TRAIN, f"--out={tmp_path / 'run'}")
    assert (code, complaints) == (130, "mixem: stopped; give the same command to go on\n")


@pytest.mark.skipif(os.name == "nt", reason="Windows knows no broken pipes")
def test_a_reader_that_leaves_is_no_error():
    process = subprocess.Popen(
        [sys.executable, "-m", "mixem", "list", "stl10/mixem"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    process.stdout.close()
    complaints = process.stderr.read()
    process.stderr.close()
    assert process.wait(60) == 0
    assert complaints == b""


@pytest.mark.parametrize(
    "words", [("train", "digits/simclr", "--out", ""), ("predict", "run", ""), ("predict", "", "x")]
)
def test_an_empty_path_is_not_the_current_folder(command, words):
    code, _, complaints = command(*words)
    assert (code, complaints.count("\n")) == (2, 1)
    assert "it is empty; give a path" in complaints
