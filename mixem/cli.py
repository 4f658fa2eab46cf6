"""The command line: ``python -m mixem``.

What the user can mend is one line on stderr and exit code 2.
"""

import argparse
import ast
import csv
import io
import os
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn, TextIO

import torch

from mixem.checkpoint import write_atomically
from mixem.data import ImageSet, load_images
from mixem.devices import resolve_device
from mixem.distributed import leads, part
from mixem.errors import InputError
from mixem.evaluate import evaluate
from mixem.experiments import EXPERIMENTS, Experiment, get
from mixem.experiments.settings import whole
from mixem.methods import extract
from mixem.profile import profile
from mixem.records import METRICS, Table, comparison, load_records, save_record, summarise, variant
from mixem.runs import Run, load_run, run

STOPPED = 3  # exit code of a run that is not finished


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code."""
    options = _parser().parse_args(arguments)
    try:
        with warnings.catch_warnings():
            warnings.showwarning = _show
            code = options.command(options)
        sys.stdout.flush()
        return code
    except KeyboardInterrupt:
        print("mixem: stopped; give the same command to go on", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader of our output has gone, as in `mixem list | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for the flush at the end
        return 0
    except (torch.cuda.OutOfMemoryError, MemoryError) as error:
        advice = "give --device cpu"
        if options.command in (_train, _profile):
            advice = (
                "give a smaller batch and as many more of them a step, such as --set "
                "training.batch_size=128 --set training.accumulate=2; what was saved last is intact"
            )
        reason = " ".join(str(error).split())[:120]
        print(f"mixem: the memory is full; {advice} ({reason})", file=sys.stderr)
        return 2
    except (InputError, FloatingPointError, OSError) as error:
        print(f"mixem: {error}", file=sys.stderr)
        return 2


def _show(message: Warning | str, *_: Any, **__: Any) -> None:
    """Print a warning as one line."""
    print(f"mixem: {message}", file=sys.stderr)


class _Parser(argparse.ArgumentParser):
    """A parser whose errors are one line too."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"mixem: {message}; see {self.prog} --help\n")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="mixem", description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    list_ = commands.add_parser("list", help="list the experiments, or the settings of one")
    list_.add_argument("name", nargs="?", help="an experiment, to see each setting and its source")
    list_.set_defaults(command=_list)

    train = commands.add_parser("train", help="train an experiment, or go on with it")
    train.add_argument("name", help="an experiment; python -m mixem list shows them")
    train.add_argument("--seed", type=int, default=0)
    train.add_argument("--out", type=Path, help="folder of the run (default: one under runs/)")
    train.add_argument(
        "--start",
        "--start-from",  # as torchrun takes --start for its --start-method
        type=Path,
        help="finished run that gives the backbone's start",
    )
    _change_options(train)
    _data_options(train)
    train.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, ...")
    train.add_argument("--precision", default="auto", help="auto, float32 or bfloat16")
    train.add_argument("--compile", action="store_true", help="let torch.compile help, if it can")
    train.add_argument("--max-minutes", type=float, help="stop cleanly after this time")
    train.add_argument(
        "--checkpoint-seconds", type=float, default=30, help="least time between checkpoints"
    )
    train.add_argument("--results", type=Path, help="also put the record into this folder")
    train.add_argument("--quiet", action="store_true", help="no progress bar")
    train.set_defaults(command=_train)

    profile_ = commands.add_parser("profile", help="show where a training step's time goes")
    profile_.add_argument("name", help="an experiment; python -m mixem list shows them")
    _change_options(profile_)
    _data_options(profile_)
    profile_.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, ...")
    profile_.add_argument("--precision", default="auto", help="auto, float32 or bfloat16")
    profile_.add_argument("--compile", action="store_true", help="let torch.compile help")
    profile_.add_argument("--steps", type=int, default=20, help="how many to time (default: 20)")
    profile_.set_defaults(command=_profile)

    evaluate_ = commands.add_parser("evaluate", help="score a finished run under every protocol")
    evaluate_.add_argument("run", type=Path, help="folder of the run")
    evaluate_.add_argument("--images", help="other images than the experiment's")
    evaluate_.add_argument("--split", help="split of --images (default: all of them)")
    _data_options(evaluate_)
    evaluate_.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, ...")
    evaluate_.set_defaults(command=_evaluate)

    predict = commands.add_parser("predict", help="sort a folder of pictures with a finished run")
    predict.add_argument("run", type=Path, help="folder of the run")
    predict.add_argument("folder", type=Path, help="folder of pictures")
    predict.add_argument("--out", type=Path, help="CSV file (default: the terminal)")
    predict.add_argument("--data", type=Path, help="folder of the cache of large folders")
    predict.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, ...")
    predict.set_defaults(command=_predict)

    tables = commands.add_parser("tables", help="the papers' numbers beside the records")
    tables.add_argument("--results", type=Path, default=Path("results"))
    tables.add_argument("--metric", choices=METRICS, default="accuracy")
    tables.set_defaults(command=_tables)
    return parser


def _change_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--images", help="other images than the experiment's, such as folder:PATH")
    parser.add_argument("--split", help="split of --images (default: all of them)")
    parser.add_argument("--clusters", type=int, help="other number of clusters")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="PATH=VALUE",
        help="change a setting, such as training.epochs=20; repeatable",
    )


def _data_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--data", type=Path, help="folder of the data sets (default: $MIXEM_DATA or ~/.cache/mixem)"
    )
    parser.add_argument("--download", action="store_true", help="fetch the data set if need be")


def _list(options: argparse.Namespace) -> int:
    if options.name:
        experiment = get(options.name)
        settings = experiment.values().items()
        sourced = tuple((path, str(value), experiment.source(path)) for path, value in settings)
        print(Table(("setting", "value", "source"), sourced))
        return 0
    rows = [
        (e.name, e.images, e.train_split, e.backbone, str(e.training.epochs), e.start or "random")
        for e in EXPERIMENTS.values()
    ]
    print(Table(("experiment", "images", "split", "backbone", "epochs", "start"), tuple(rows)))
    return 0


def _train(options: argparse.Namespace) -> int:
    experiment = _changed(get(options.name), options)
    finished = run(
        experiment,
        seed=options.seed,
        out=options.out,
        start=options.start,
        root=options.data,
        download=options.download,
        device=options.device,
        precision=options.precision,
        compile=options.compile,
        max_minutes=options.max_minutes,
        checkpoint_seconds=options.checkpoint_seconds,
        progress=not options.quiet,
    )
    part()
    if not leads():  # of several processes one speaks
        return 0 if finished else STOPPED
    if finished is None:
        print("not finished: give the same command to go on")
        return STOPPED
    if options.results:
        print(f"record: {save_record(finished.record, options.results)}")
    _report(finished)
    return 0


def _profile(options: argparse.Namespace) -> int:
    found = profile(
        _changed(get(options.name), options),
        device=options.device,
        precision=options.precision,
        compile=options.compile,
        steps=options.steps,
        root=options.data,
        download=options.download,
    )
    print(found)
    return 0


def _changed(experiment: Experiment, options: argparse.Namespace) -> Experiment:
    changes: dict[str, Any] = {}
    if options.images:
        experiment = experiment.on(options.images, split=options.split)
    elif options.split:
        raise InputError("--split was given without --images; give both")
    if options.clusters is not None:
        changes["clusters"] = options.clusters
    for text in options.set:
        path, equals, value = text.partition("=")
        if not equals:
            raise InputError(f"--set {text!r} has no '='; give PATH=VALUE, as training.epochs=20")
        changes[path.replace(".", "__")] = _literal(value)
    return experiment.override(**changes)


def _literal(text: str) -> Any:
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def _report(finished: Run) -> None:
    record = finished.record
    print(f"{record['experiment']}, seed {record['seed']}: complete, in {finished.folder}")
    print(f"{record['usage']['used']} of {finished.experiment.clusters} clusters used", end="")
    if record["metrics"]:
        print("".join(f", {name} {record['metrics'][name]:.4f}" for name in METRICS))
    else:
        print("; no labels to score")


def _evaluate(options: argparse.Namespace) -> int:
    finished = load_run(options.run)
    experiment = finished.experiment
    if options.images:
        split = options.split or whole(options.images)
    elif options.split:
        raise InputError("--split was given without --images; give both")
    else:
        split = experiment.test_split
    channels, size, _ = finished.record["data"]["shape"]

    def load(split: str) -> ImageSet:
        return load_images(
            options.images or experiment.images,
            split=split,
            root=options.data,
            download=options.download,
            size=size,
            channels=channels,
        )

    images = load(split)
    fit_split = split if options.images else experiment.protocol.fit_split
    found = evaluate(
        finished.method.to(resolve_device(options.device)),
        images,
        clusters=experiment.clusters,
        protocol=experiment.protocol,
        mapping=experiment.mapping,
        fit_images=None if fit_split == split else load(fit_split),
    )
    if found["metrics"] is None:
        raise InputError(f"{images.name} has no labels to score; mixem predict needs none")
    rows = []
    for row in found["protocols"]:
        switches = ("–",) * 3
        if row["kind"] == "k-means":
            switches = (row["layer"], "yes" if row["normalise"] else "no", row["init"])
        what = row["kind"] + (
            f" {row['sub_head']}, loss {row['loss']:.3f}" if "loss" in row else ""
        )
        what += f" {row['share']:.0%}" if "share" in row else ""
        what += f", batch norm of {row['batch_norm']}" if "batch_norm" in row else ""
        rows.append((what, *switches, *(f"{row['scores'][name]:.4f}" for name in METRICS)))
    print(f"{images.name}, {split}: {len(images)} images; the first row is the main protocol")
    print(Table(("assigned by", "layer", "normalised", "start", *METRICS), tuple(rows)))
    return 0


def _predict(options: argparse.Namespace) -> int:
    finished = load_run(options.run)
    channels, size, _ = finished.record["data"]["shape"]
    images = load_images(
        f"folder:{options.folder}", split="all", root=options.data, size=size, channels=channels
    )
    method = finished.method.to(resolve_device(options.device))
    probabilities, clusters = extract(method, images.images, "cluster").max(1)

    def write(file: TextIO) -> None:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("file", "cluster", "probability"))
        for row in zip(images.files, clusters.tolist(), probabilities.tolist(), strict=True):
            writer.writerow((row[0], row[1], f"{row[2]:.6f}"))

    if options.out:

        def write_path(path: Path) -> None:
            with path.open("w", encoding="utf-8", errors="surrogateescape", newline="") as file:
                write(file)

        write_atomically(options.out, write_path)
    else:
        if isinstance(sys.stdout, io.TextIOWrapper):  # a file's name need not be UTF-8
            sys.stdout.reconfigure(errors="surrogateescape")
        write(sys.stdout)
    if finished.method.needs_a_batch and len(images) < 100:
        print(
            f"mixem: this network normalises with the pictures given together, and {len(images)} "
            "are few: the clusters may be wrong; give a hundred or more",
            file=sys.stderr,
        )
    for name, reason in images.skipped:
        print(f"mixem: skipped {name}: {reason}", file=sys.stderr)
    print(f"mixem: {len(images)} pictures sorted, {len(images.skipped)} skipped", file=sys.stderr)
    return 0


def _tables(options: argparse.Namespace) -> int:
    records = load_records(options.results)
    print(comparison(list(EXPERIMENTS), records, options.metric))
    changed: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for record in records:
        if record["overrides"]:
            changed.setdefault((record["experiment"], variant(record)), []).append(record)
    if changed:
        rows = []
        for (name, what), group in changed.items():
            ours = summarise(group, options.metric)
            rows.append((name, what, ours.percent() if ours else "–", str(len(group))))
        print("\nWith changed settings:")
        print(Table(("experiment", "changed", "ours", "n"), tuple(rows)))
    return 0
