"""The command line: ``python -m mixem``.

What the user can mend is one line on stderr and exit code 2.
"""

import argparse
import ast
import io
import os
import sys
import warnings
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import mixem
from mixem.cli.options import given, given_path, max_pixels_option, number, whole_number
from mixem.cli.pictures import add_commands
from mixem.errors import InputError, memory_is_full, printable, reason
from mixem.progress import working

if TYPE_CHECKING:  # what trains takes seconds to import: each command does it for itself
    from mixem.data import ImageSet
    from mixem.experiments import Experiment
    from mixem.runs import Run
    from mixem.training import Sitting

__all__ = ["main"]

SHOWN = 30  # classes and clusters of which a table is shown
NAMED = 3  # classes that are named in a message
STOPPED = 3  # exit code of a run that is not finished
MOST_STEPS = 100_000  # that are timed
LONGEST = 500  # characters of a line on an error
# Those of mixem.records, of images and of pixels, which need not be loaded for --help.
METRICS = ("accuracy", "nmi", "ari", "mean_iou", "majority_accuracy")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code."""
    _prepare_streams()
    options = _parser().parse_args(arguments)
    try:
        doing = working(f"{options.name_of_command}: reading what it needs")
        with warnings.catch_warnings(), doing, _large_pictures(options):
            warnings.showwarning = _show
            code = options.command(options)
        sys.stdout.flush()
        return code
    except KeyboardInterrupt:
        _complain("stopped; give the same command to go on")
        return 130
    except BrokenPipeError:  # the reader of our output has gone, as in `mixem list | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for the flush at the end
        return 0
    except (InputError, FloatingPointError, OSError) as error:
        _complain(str(error))
        return 2
    except (RuntimeError, MemoryError) as error:
        if not memory_is_full(error):
            if not _of_the_others(error):
                raise
            _complain(
                "the connection to the other processes has failed, mostly because one of them has "
                f"ended; give the same command to go on ({reason(error)[:120]})"
            )
            return 2
        of_a_gpu = type(error).__name__ == "OutOfMemoryError"
        advice = "give --device cpu" if of_a_gpu else "close other programs or give fewer pictures"
        if options.command in (_train, _profile, _verify, _reproduce):
            advice = (
                "give a smaller batch and as many more of them a step, such as --set "
                "training.batch_size=128 --set training.accumulate=2; what was saved last is intact"
            )
        _complain(f"the memory is full; {advice} ({reason(error)[:120]})")
        return 2


def _prepare_streams() -> None:
    """What is closed takes everything; what knows few characters shows the others as escapes."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, Path(os.devnull).open("w"))  # noqa: SIM115
        elif isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _complain(text: str) -> None:
    """Print one line on stderr, of bounded length, whose end is the advice."""
    line = printable(" ".join(text.split()))
    if len(line) > LONGEST:
        line = f"{line[: LONGEST - 200]} ... {line[-190:]}"
    print(f"mixem: {line}", file=sys.stderr)


def _of_the_others(error: Exception) -> bool:
    """Whether an error is of the connection between processes; most are plain RuntimeErrors."""
    from mixem.distributed import processes

    words = ("gloo", "nccl", "by peer", "connection", "broken pipe", "tcpstore")
    return processes() > 1 and any(word in str(error).lower() for word in words)


def _large_pictures(options: argparse.Namespace) -> AbstractContextManager[None]:
    """Inside, pictures above Pillow's limit are read if ``--max-pixels`` allows them."""
    if getattr(options, "max_pixels", None) is None:
        return nullcontext()
    from mixem.data.picture import pixel_limit

    return pixel_limit(options.max_pixels)


def _show(message: Warning | str, *_: Any, **__: Any) -> None:
    """Print a warning as one line."""
    _complain(str(message))


class _Parser(argparse.ArgumentParser):
    """A parser whose errors are one line too."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"mixem: {message}; see {self.prog} --help\n")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="mixem", description=__doc__.splitlines()[0])
    parser.add_argument("--version", action="version", version=f"mixem {mixem.__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(name: str, action: Any, text: str) -> argparse.ArgumentParser:
        made = commands.add_parser(name, help=text)
        made.set_defaults(command=action, name_of_command=name)
        return made

    listing = command("list", _list, "list the experiments, or the settings of one")
    listing.add_argument(
        "name", nargs="?", type=given, help="an experiment, to see each setting and its source"
    )

    train = command("train", _train, "train an experiment, or go on with it")
    _experiment_options(train)
    train.add_argument("--seed", type=whole_number(0, 2**63 - 1), default=0)
    train.add_argument(
        "--out", type=given_path, help="folder of the run (default: one under runs/)"
    )
    train.add_argument(
        "--start",
        "--start-from",  # as torchrun takes --start for its --start-method
        type=given_path,
        help="finished run that gives the start",
    )
    train.add_argument("--max-minutes", type=number, help="stop cleanly after this time")
    train.add_argument(
        "--checkpoint-seconds", type=number, default=30, help="least time between checkpoints"
    )
    train.add_argument("--results", type=given_path, help="also put the record into this folder")
    train.add_argument("--quiet", action="store_true", help="no progress bar")

    queue = command("reproduce", _reproduce, "train what the book's tables lack, or list it")
    queue.add_argument("rows", nargs="*", metavar="ROW", help="rows of the list (default: all)")
    queue.add_argument("--list", action="store_true", help="the rows in order of value, and go")
    queue.add_argument("--minutes", type=number, help="stop cleanly after this time")
    queue.add_argument(
        "--fit-minutes", type=number, metavar="M",
        help="of a single row: scale the length of its training to this time",
    )  # fmt: skip
    queue.add_argument(
        "--seed", type=whole_number(0, 2**63 - 1), default=0, help="of --fit-minutes"
    )
    queue.add_argument(
        "--start", type=given_path, help="finished run to start from, of --fit-minutes"
    )
    queue.add_argument(
        "--images", type=given, help="other images in the same splits, such as folder:PATH"
    )
    queue.add_argument(
        "--results", type=given_path, default=Path("results"), help="folder of records"
    )
    queue.add_argument("--quiet", action="store_true", help="no progress bar")
    _data_options(queue)
    _device_option(queue)
    _precision_options(queue)

    profile = command("profile", _profile, "show where a training step's time goes")
    _experiment_options(profile)
    profile.add_argument(
        "--steps", type=whole_number(1, MOST_STEPS),
        help="how many to time, of whole batches (default: what some seconds allow, at most 20)",
    )  # fmt: skip

    evaluate = command("evaluate", _evaluate, "score a finished run under every protocol")
    evaluate.add_argument("run", type=given_path, help="folder of the run")
    evaluate.add_argument("--images", type=given, help="other images than the experiment's")
    evaluate.add_argument("--split", type=given, help="split of --images (default: all of them)")
    evaluate.add_argument(
        "--yardsticks", action=argparse.BooleanOptionalAction,
        help="also score k-means on pixels and other yardsticks (default: for folders)",
    )  # fmt: skip
    _data_options(evaluate)
    _device_option(evaluate)

    add_commands(command, _device_option)

    verify = command("verify", _verify, "train the first epoch of records again and compare")
    verify.add_argument(
        "records", nargs="*", type=given_path, help="files or folders (default: results)"
    )
    verify.add_argument(
        "--tolerance", type=number, default=0.02,
        help="largest difference of a loss term on another machine (default: 0.02)",
    )  # fmt: skip
    _data_options(verify)
    _device_option(verify)

    tables = command("tables", _tables, "the papers' numbers beside the records")
    tables.add_argument("--results", type=given_path, help="folder of records (default: results)")
    tables.add_argument("--metric", choices=METRICS, default="accuracy")
    return parser


def _experiment_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", help="an experiment; python -m mixem list shows them")
    parser.add_argument(
        "--images", type=given, help="other images than the experiment's, such as folder:PATH"
    )
    parser.add_argument("--split", type=given, help="split of --images (default: all of them)")
    parser.add_argument("--clusters", type=whole_number(1), help="other number of clusters")
    parser.add_argument(
        "--pad", action="store_true",
        help="of pictures that are not square, show all and pad them, instead of cropping",
    )  # fmt: skip
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="PATH=VALUE",
        help="change a setting, such as training.epochs=20; repeatable",
    )
    _data_options(parser)
    _device_option(parser)
    _precision_options(parser)


def _precision_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--precision", default="auto", help="auto, float32, bfloat16, float16")
    parser.add_argument("--compile", action="store_true", help="let torch.compile help, if it can")


def _data_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--data", type=given_path,
        help="folder of the data sets (default: $MIXEM_DATA or ~/.cache/mixem)",
    )  # fmt: skip
    parser.add_argument("--download", action="store_true", help="fetch the data set if need be")
    max_pixels_option(parser)


def _device_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, ...")


def _list(options: argparse.Namespace) -> int:
    from mixem.experiments import EXPERIMENTS, get
    from mixem.records import Table

    if options.name:
        experiment = get(options.name)
        settings = experiment.values().items()
        sourced = tuple((path, str(value), experiment.source(path)) for path, value in settings)
        print(Table(("setting", "value", "source"), sourced))
        _expect(options.name)
        return 0
    rows = [
        (e.name, e.images, e.train_split, e.backbone, str(e.training.epochs), e.start or "random")
        for e in EXPERIMENTS.values()
    ]
    print(Table(("experiment", "images", "split", "backbone", "epochs", "start"), tuple(rows)))
    return 0


def _expect(name: str) -> None:
    """Say what the records that are at hand lead to expect of an experiment."""
    from mixem.records import load_records, records_of, summarise

    found = records_of(load_records(), name) if Path("results").is_dir() else []
    if ours := summarise(found):
        print(
            f"\n{ours.n} seed{'s' * (ours.n > 1)}: accuracy {ours.percent()} %, "
            f"{ours.minutes:.1f} minutes each on {ours.hardware}"
        )


def _train(options: argparse.Namespace) -> int:
    from mixem.distributed import disconnect, leads
    from mixem.experiments import get
    from mixem.records import save_record
    from mixem.runs import run

    finished = run(
        _changed(get(options.name), options),
        seed=options.seed,
        out=options.out,
        start=options.start,
        root=options.data,
        download=options.download,
        sitting=_sitting(options),
    )
    disconnect()
    if not leads():  # of several processes one speaks
        return 0 if finished else STOPPED
    if finished is None:
        print("not finished: give the same command to go on")
        return STOPPED
    if options.results:
        print(f"record: {save_record(finished.record, options.results)}")
    _report(finished)
    return 0


def _sitting(options: argparse.Namespace) -> "Sitting":
    from mixem.training import Sitting

    return Sitting(
        device=options.device,
        precision=options.precision,
        compile=options.compile,
        max_minutes=options.max_minutes,
        checkpoint_seconds=options.checkpoint_seconds,
        progress=not options.quiet,
    )


def _reproduce(options: argparse.Namespace) -> int:
    from functools import partial

    from mixem.records import load_records
    from mixem.reproduce import fit, listing, reproduce, rows_named
    from mixem.training import Sitting

    say = partial(print, flush=True)
    rows = rows_named(options.rows)
    sitting = Sitting(
        device=options.device,
        precision=options.precision,
        compile=options.compile,
        progress=not options.quiet,
    )
    if options.list:
        records = load_records(options.results) if options.results.is_dir() else []
        aside = partial(print, file=sys.stderr, flush=True)
        how: dict[str, Any] = {"images": options.images, "root": options.data, "say": aside}
        print(listing(rows, records, sitting=sitting, **how))
        return 0
    how = {
        "results": options.results,
        "minutes": options.minutes,
        "images": options.images,
        "root": options.data,
        "download": options.download,
        "sitting": sitting,
        "say": say,
    }
    if options.fit_minutes is not None:
        if len(options.rows) != 1:
            raise InputError("--fit-minutes is for a single row; give its name")
        found = fit(rows[0], options.fit_minutes, seed=options.seed, start=options.start, **how)
        return STOPPED if found is None else 0
    progress = reproduce(rows, **how)
    if progress.stopped:
        return STOPPED
    if progress.failed:
        raise InputError(f"{len(progress.failed)} of the runs were left out; see above")
    if not progress.done:
        say("nothing is missing")
    return 0


def _profile(options: argparse.Namespace) -> int:
    from mixem.experiments import get
    from mixem.profile import profile

    found = profile(
        _changed(get(options.name), options),
        steps=options.steps,
        root=options.data,
        download=options.download,
        device=options.device,
        precision=options.precision,
        compile=options.compile,
    )
    print(found)
    return 0


def _changed(experiment: "Experiment", options: argparse.Namespace) -> "Experiment":
    from mixem.data import network_of

    changes: dict[str, Any] = {}
    if options.images:
        experiment = experiment.on(options.images, split=options.split)
    elif options.split:
        raise InputError("--split was given without --images; give both")
    if options.clusters is not None:
        changes["clusters"] = options.clusters
    if options.pad:
        if network_of(experiment.images)[1]:
            raise InputError("a pretrained network is shown whole pictures; leave --pad out")
        changes["views.pad"] = True
    for text in options.set:
        path, equals, value = text.partition("=")
        if not equals:
            raise InputError(f"--set {text!r} has no '='; give PATH=VALUE, as training.epochs=20")
        changes[path] = _literal(value)
    return experiment.override(changes)


def _literal(text: str) -> Any:
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def _report(finished: "Run") -> None:
    record = finished.record
    print(f"{record.experiment}, seed {record.seed}: complete, in {finished.folder}")
    print(f"{record.usage.used} of {finished.experiment.clusters} clusters used", end="")
    if record.metrics:
        known = [name for name in METRICS if name in record.metrics]
        print("".join(f", {name} {record.metrics[name]:.4f}" for name in known))
    else:
        print("; no labels to score")


def _evaluate(options: argparse.Namespace) -> int:
    from mixem.data import load_images, network_of
    from mixem.devices import resolve_device
    from mixem.experiments.build import build
    from mixem.experiments.settings import whole
    from mixem.features import load_vectors
    from mixem.records import Table
    from mixem.runs import load_run
    from mixem.scoring import evaluate
    from mixem.yardsticks import yardsticks

    finished = load_run(options.run)
    experiment = finished.experiment
    if options.images:
        split = options.split or whole(options.images)
    elif options.split:
        raise InputError("--split was given without --images; give both")
    else:
        split = experiment.test_split
    _, network = network_of(experiment.images)

    def load(split: str) -> "ImageSet":
        if network:
            name = options.images or experiment.images
            name = name if network_of(name)[1] else f"{name}@{network}"
            return load_vectors(name, split=split, root=options.data, download=options.download)
        channels, size = finished.pictures()
        return load_images(
            options.images or experiment.images,
            split=split,
            root=options.data,
            download=options.download,
            size=size,
            channels=channels,
            pad=experiment.views.pad,
        )

    images = load(split)
    if finished.method.mapping == "identity" and finished.record.data.class_names:
        images = _of_classes(images, finished.record.data.class_names)
    if not finished.method.clusters_itself and len(images) < finished.method.clusters:
        raise InputError(
            f"{len(images)} pictures for a run of {finished.method.clusters} clusters, found by "
            "k-means; give as many pictures at least, or let mixem predict sort them, which can"
        )
    fit_split = split if options.images else experiment.protocol.fit_split
    found = evaluate(
        finished.method.to(resolve_device(options.device)),
        images,
        protocol=experiment.protocol,
        fit_images=None if fit_split == split else load(fit_split),
    )
    if found.metrics is None:
        raise InputError(f"{images.name} has no labels to score; mixem predict needs none")
    metrics = [name for name in METRICS if name in found.metrics]
    rows = []
    for row in found.rows:
        s = row.switches
        of_kmeans = ("–",) * 3
        if row.kind == "k-means":
            of_kmeans = (s["layer"], "yes" if s["normalise"] else "no", s["init"])
        scores = row.scores or {}
        rows.append((row.label(), *of_kmeans, *(f"{scores[name]:.4f}" for name in metrics)))
    of_a_folder = images.name.startswith("folder:") and finished.method.sorts == "images"
    of_a_folder = of_a_folder and not network
    if of_a_folder if options.yardsticks is None else options.yardsticks:
        untrained = build(experiment, channels=images.channels, seed=0)
        for row in yardsticks(untrained.to(resolve_device(options.device)), images):
            scores = row.scores or {}
            rows.append((row.kind, *("–",) * 3, *(f"{scores[name]:.4f}" for name in metrics)))
    print(f"{images.name}, {split}: {len(images)} images; the first row is the main protocol")
    print(Table(("assigned by", "layer", "normalised", "start", *metrics), tuple(rows)))
    of_classes = [name for name in found.metrics if name.startswith("iou ")]
    if of_classes:
        print("\nof each class, by the main protocol:")
        each = tuple((name, f"{found.metrics[name]:.4f}") for name in of_classes)
        print(Table(("", ""), each))
    if of_a_folder and found.counts and len(found.counts) <= SHOWN >= len(found.counts[0]):
        print("\npictures of each folder in each cluster:")
        of_folders = zip(images.class_names, found.counts, strict=False)
        counted = tuple((name, *map(str, counts)) for name, counts in of_folders)
        print(Table(("folder", *map(str, range(len(found.counts[0])))), counted))
    return 0


def _of_classes(images: "ImageSet", names: tuple[str, ...]) -> "ImageSet":
    """Images with the classes of a run, matched by name; says which it does not know."""
    strange = [name for name in images.class_names if name not in names]
    images = images.with_classes(names)
    if strange:
        print(
            f"mixem: the run has no class {', '.join(strange[:NAMED])}; pictures of "
            f"{len(strange)} such folders are not scored",
            file=sys.stderr,
        )
    return images


def _verify(options: argparse.Namespace) -> int:
    from mixem.verify import verify

    wrong = 0
    for found in verify(
        options.records or [Path("results")],
        tolerance=options.tolerance,
        root=options.data,
        download=options.download,
        device=options.device,
    ):
        print(found, flush=True)
        wrong += not found.holds
    return 1 if wrong else 0


def _tables(options: argparse.Namespace) -> int:
    from mixem.experiments import EXPERIMENTS
    from mixem.records import Record, Table, comparison, load_records, summarise

    folder = options.results or Path("results")
    records = [] if options.results is None and not folder.is_dir() else load_records(folder)
    print(comparison(list(EXPERIMENTS), records, options.metric))
    if not records:
        print("\nNo records here: give --results, the folder results of the book's repository.")
    changed: dict[tuple[str, str, str], list[Record]] = {}
    for record in records:
        if record.overrides:
            changed.setdefault(record.kind, []).append(record)
    if changed:
        rows = []
        for (name, what, mark), group in changed.items():
            ours = summarise(group, options.metric)
            what += f" ({mark[:8]})" if mark else ""
            rows.append((name, what, ours.percent() if ours else "–", str(len(group))))
        print("\nWith changed settings:")
        print(Table(("experiment", "changed", "ours", "n"), tuple(rows)))
    return 0
