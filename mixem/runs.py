"""Runs: one experiment, one seed, one folder.

A finished folder holds ``config.json``, ``log.jsonl``, ``model.safetensors`` and ``record.json``.
"""

import copy
import dataclasses
import hashlib
import json
import os
import platform
import time
import warnings
from dataclasses import dataclass
from functools import cache, partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from mixem.checkpoint import UNFINISHED, load_weights, read_json, save_weights, write_json
from mixem.data import SHAPES, Augmentation, ImageSet, load_images
from mixem.devices import resolve_device
from mixem.distributed import connect, leads, own_device, processes, wait
from mixem.errors import InputError
from mixem.evaluate import BATCH_NORM, evaluate
from mixem.evaluation import KMeansProtocol
from mixem.experiments import EXPERIMENTS, SETTINGS, Experiment, get
from mixem.methods import IIC, Finetune, IMCSwAV, Method, MixEM, SimCLR
from mixem.models import make_backbone
from mixem.step import require_seed, seeded
from mixem.train import Training, train
from mixem.train_config import TrainConfig

# What a trained network and its scores depend on, besides its settings.
SOURCES = (
    "data",
    "models",
    "losses",
    "methods",
    "evaluation",
    "devices.py",
    "evaluate.py",
    "meter.py",
    "step.py",
    "train.py",
    "train_config.py",
    "distributed.py",
)
METHODS: dict[str, type[Method]] = {
    "simclr": SimCLR,
    "mixem": MixEM,
    "iic": IIC,
    "imc-swav": IMCSwAV,
    "finetune": Finetune,
}
HISTORY_POINTS = 60  # kept in a record; log.jsonl has every epoch


@dataclass(frozen=True)
class Run:
    """A finished run.

    Attributes:
        folder: Where it lies.
        method: The trained network, in evaluation mode on the CPU.
        experiment: Its settings, changes included.
        record: What ``record.json`` holds.
        history: One entry an epoch, from ``log.jsonl``.
    """

    folder: Path
    method: Method
    experiment: Experiment
    record: dict[str, Any]
    history: list[dict[str, Any]]

    def at(self, epoch: int) -> Method:
        """The method as it was after an epoch of ``training.snapshots``, 0 for the start.

        A sub-head chosen at the end is chosen here too.

        Raises:
            InputError: If no weights were kept after that epoch.
        """
        training = self.experiment.training
        if epoch not in training.snapshots or epoch > training.epochs:
            raise InputError(
                f"no weights of epoch {epoch}; there are {training.snapshots} up to "
                f"{training.epochs}, set training.snapshots for others"
            )
        return _earlier(self.method, self.folder, epoch)


def run(
    experiment: Experiment | str,
    *,
    seed: int = 0,
    out: str | Path | None = None,
    start: str | Path | None = None,
    root: str | Path | None = None,
    download: bool = False,
    **options: Any,
) -> Run | None:
    """Train and evaluate an experiment, or go on with it, or load it if it is finished.

    Args:
        experiment: A name, or settings from :func:`mixem.experiments.get` and ``override``.
        seed: Of the weights, the order of the images and the views.
        out: Folder of the run. By default one under ``runs/`` (or ``$MIXEM_RUNS``) whose name is
            made of experiment, seed, data, settings and source code, so that a changed library
            never shows a stale number.
        start: Finished run to start from, of an experiment that has a start; by default the one
            of the same seed that the experiment names, trained first if need be (in ``out/start``
            if ``out`` is given).
        root: Folder of the data sets; see :func:`mixem.data.load_images`.
        download: Fetch the data set if it is not there.
        **options: ``device``, ``precision``, ``compile``, ``max_minutes`` (the start's training
            included), ``checkpoint_seconds`` and ``progress`` of :func:`mixem.train.train`.

    Returns:
        The finished run, or None if ``max_minutes`` ended it early; call again to go on.

    Raises:
        InputError: For impossible settings, missing data, a folder of another run.
    """
    began = time.monotonic()
    if isinstance(experiment, str):
        experiment = get(experiment)
    require_seed(seed)
    if processes() > 1:
        connect(resolve_device(own_device(options.get("device", "auto"))))

    def load(split: str) -> ImageSet:
        return load_images(
            experiment.images,
            split=split,
            root=root,
            download=download and leads(),
            size=side_of(experiment),
        )

    # What can be wrong is found out here, before the folder is taken and hours are spent.
    splits = (
        experiment.train_split,
        experiment.over_split or experiment.train_split,
        experiment.test_split,
        experiment.protocol.fit_split,
    )
    if not leads():
        wait()  # what the first process downloads or prepares, the others find
    loaded = {split: load(split) for split in dict.fromkeys(splits)}
    if leads():
        wait()
    for part in loaded.values():
        if part.skipped and leads():
            files, (name, reason) = len(part) + len(part.skipped), part.skipped[0]
            warnings.warn(
                f"{len(part.skipped)} of {files} files in {part.name} cannot be read and are left "
                f"out, such as {name}: {reason}",
                stacklevel=2,
            )
    images, over, test, fit = (loaded[split] for split in splits)
    fewest = min(map(len, loaded.values()))
    if experiment.clusters > fewest:
        raise InputError(f"{experiment.clusters} clusters for {fewest} images; give fewer clusters")
    if experiment.method != "mixem" and experiment.protocol.init == "components":
        name = METHODS[experiment.method].__name__
        raise InputError(f"{name} has no components; give 'k-means++' as protocol.init")
    method = build(experiment, channels=images.channels, seed=seed)
    method.targets(images)
    starting = method if isinstance(method, MixEM | Finetune) and experiment.start else None
    if start and not starting:
        raise InputError(f"{experiment.name} starts from random weights; leave the start out")
    folder = Path(out) if out else default_folder(experiment, seed, images)
    finished = (folder / "record.json").exists()
    origin = None
    if start and starting and not finished:
        origin = load_run(start)
        starting.start_from(origin.method)
    elif starting and not finished:  # an untrained start shows whether the trained one will fit
        starting.start_from(build(start_of(experiment), channels=images.channels, seed=seed))

    identity = {"experiment": to_dict(experiment), "seed": seed, "data": images.fingerprint}
    if start:
        identity["start"] = str(Path(start).resolve())
    _claim(folder, identity)
    if finished:
        return load_run(folder)

    if starting and not origin:
        origin = run(
            start_of(experiment),
            seed=seed,
            out=folder / "start" if out else None,
            root=root,
            download=download,
            **options,
        )
        if origin is None:
            return None
        starting.start_from(origin.method)
    if options.get("max_minutes") is not None:
        options["max_minutes"] -= (time.monotonic() - began) / 60
    sets = {name: over if name == "over" else images for name in method.passes}
    training = train(method, sets, experiment.training, seed=seed, out=folder, **options)
    if not training.complete:
        return None
    if leads():
        _conclude(method, experiment, seed, folder, images, test, fit, training, origin)
    wait()
    return load_run(folder)


def _conclude(
    method: Method,
    experiment: Experiment,
    seed: int,
    folder: Path,
    images: ImageSet,
    test: ImageSet,
    fit: ImageSet,
    training: Training,
    origin: Run | None,
) -> None:
    """Score the trained method and write down what came out."""
    method.finish(images.images, seeded(seed, "finish", 0, training.device))

    scored = partial(
        evaluate,
        images=test,
        clusters=experiment.clusters,
        protocol=experiment.protocol,
        mapping=experiment.mapping,
        fit_images=None if fit.fingerprint == test.fingerprint else fit,
    )
    scores = scored(method)
    kept = [e for e in sorted(experiment.training.snapshots) if e <= experiment.training.epochs]
    curve = [
        {"epoch": epoch, **scored(_earlier(method, folder, epoch), main_only=True)["metrics"]}
        for epoch in (kept if test.labels is not None else ())
    ]
    save_weights(folder / "model.safetensors", method.to("cpu"))
    record = _record(experiment, seed, images, test, training, origin, scores | {"curve": curve})
    for leftover in folder.glob(f".*{UNFINISHED}"):  # of a process killed while it wrote
        leftover.unlink(missing_ok=True)
    write_json(folder / "record.json", record)
    (folder / "checkpoint.pt").unlink(missing_ok=True)


def side_of(experiment: Experiment) -> int | None:
    """Side in pixels to which pictures of a folder are decoded; None for other images.

    That of the views. A recipe whose crops are so many pixels wide gets pictures of the side that
    it was made for, so that there is something to cut off.
    """
    if not experiment.images.startswith("folder:"):
        return None
    views = experiment.views
    made_for = EXPERIMENTS[experiment.name].images if experiment.name in EXPERIMENTS else ""
    own = SHAPES[made_for][1] if views.crop_sides and made_for in SHAPES else 0
    return max(views.size, views.plain_size or 0, own)


def _earlier(method: Method, folder: Path, epoch: int) -> Method:
    """A copy of a trained method with the weights of a snapshot and the sub-head of the end."""
    earlier = copy.deepcopy(method)
    load_weights(folder / f"epoch-{epoch}.safetensors", earlier)
    if isinstance(earlier, IIC) and isinstance(method, IIC):
        earlier.chosen.copy_(method.chosen)
    return earlier


def build(experiment: Experiment, *, channels: int, seed: int) -> Method:
    """The untrained method of an experiment, its weights drawn from the seed."""
    settings = dataclasses.asdict(experiment.settings)
    if experiment.plain_views:
        settings["plain_views"] = dataclasses.replace(
            experiment.plain_views, size=experiment.views.size
        )
    if experiment.small_views:
        settings["small_views"] = experiment.small_views
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        backbone = make_backbone(
            experiment.backbone, in_channels=channels, size=experiment.views.size
        )
        method = METHODS[experiment.method](
            backbone, experiment.views, clusters=experiment.clusters, **settings
        )
    _require_sizes(experiment, backbone.eval(), channels)
    return method.eval()


@torch.no_grad()
def _require_sizes(experiment: Experiment, backbone: torch.nn.Module, channels: int) -> None:
    """Raise :class:`InputError` unless the backbone takes views of all sizes there are."""
    usual, small = experiment.views.size, experiment.small_views
    for size in {small.size if small else usual, experiment.views.plain_size or usual} - {usual}:
        try:
            backbone(torch.zeros(2, channels, size, size))
        except RuntimeError as error:
            raise InputError(
                f"{experiment.backbone} for images of size {usual} does not take "
                f"{size}; give all views one size, or a ResNet"
            ) from error


def load_run(folder: str | Path) -> Run:
    """A finished run from its folder.

    Raises:
        InputError: If the folder is missing, unfinished or damaged.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(f"there is no folder {folder}; give the --out of a finished run")
    config = read_json(folder / "config.json")
    if not (folder / "record.json").exists():
        raise InputError(f"the run in {folder} is not finished; give its training command again")
    record = read_json(folder / "record.json")
    try:
        experiment = from_dict(config["experiment"])
        method = build(experiment, channels=record["data"]["shape"][0], seed=0)
        lines = (folder / "log.jsonl").read_text(encoding="utf-8").splitlines()
        history = [json.loads(line) for line in lines]
    except InputError:
        raise
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"the run in {folder} is damaged ({error!r}); train it again") from error
    load_weights(folder / "model.safetensors", method)
    return Run(folder, method, experiment, record, history)


def start_of(experiment: Experiment) -> Experiment:
    """The experiment that ``experiment`` starts from, on the same images and backbone.

    Finetuning takes its start as it is.
    """
    start = get(str(experiment.start))
    if experiment.method == "finetune":
        return start
    shared = ("images", "train_split", "test_split", "backbone", "clusters", "views")
    protocol = dataclasses.replace(start.protocol, fit_split=experiment.protocol.fit_split)
    return dataclasses.replace(
        start, protocol=protocol, **{name: getattr(experiment, name) for name in shared}
    )


def default_folder(experiment: Experiment, seed: int, images: ImageSet) -> Path:
    """``runs/NAME-seedN-KEY``; the key is made of everything the result depends on."""
    parts = [to_dict(experiment), images.fingerprint, source_fingerprint()]
    if experiment.start:
        parts.append(to_dict(start_of(experiment)))
    key = hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:10]
    name = experiment.name.replace("/", "-")
    return Path(os.environ.get("MIXEM_RUNS", "runs")) / f"{name}-seed{seed}-{key}"


@cache
def source_fingerprint() -> str:
    """SHA-256 of the source files that a run depends on."""
    package = Path(__file__).parent
    files = [f for part in SOURCES for f in sorted([package / part, *(package / part).rglob("*")])]
    digest = hashlib.sha256()
    for file in files:
        if file.suffix == ".py":
            digest.update(file.relative_to(package).as_posix().encode() + file.read_bytes())
    return digest.hexdigest()


def to_dict(experiment: Experiment) -> dict[str, Any]:
    """The settings as JSON has them, sources left out."""
    values = dataclasses.asdict(dataclasses.replace(experiment, sources={}))
    del values["sources"]
    return json.loads(json.dumps(values))


def from_dict(values: dict[str, Any]) -> Experiment:
    """Undo :func:`to_dict`."""

    def built(part: Any, values: dict[str, Any]) -> Any:
        return part(**{k: tuple(v) if isinstance(v, list) else v for k, v in values.items()})

    try:
        parts = {
            "views": Augmentation,
            "settings": SETTINGS[values["method"]],
            "training": TrainConfig,
            "protocol": KMeansProtocol,
        }
        for name in ("plain_views", "small_views"):
            if values[name] is not None:
                parts[name] = Augmentation
        made = {name: built(part, values[name]) for name, part in parts.items()}
        return Experiment(**{**values, **made})
    except (KeyError, TypeError) as error:
        raise InputError(f"settings of another version of mixem ({error}); train again") from error


def hardware(device: str, shared_by: int = 1) -> str:
    """What a run computed on, in words; of several processes, their number too."""
    if shared_by > 1:
        return f"{shared_by} processes: {hardware(device)}"
    if device.startswith("cuda"):
        return torch.cuda.get_device_name(device)
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        lines = cpuinfo.read_text(encoding="utf-8").splitlines()
        names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
        model = names[0] if names else model
    return f"{model}, {torch.get_num_threads()} threads"


def _claim(folder: Path, config: dict[str, Any]) -> None:
    """Make the folder this run's own, or see that it already is."""
    file = folder / "config.json"
    if leads() and not file.exists():
        write_json(file, config)
    wait()
    found = read_json(file)
    if found != config:
        found = found if isinstance(found, dict) else {}
        different = [key for key in {**config, **found} if found.get(key) != config.get(key)]
        raise InputError(
            f"{folder} holds another run (other {' and '.join(different)}); "
            "choose another --out or delete the folder"
        )


def _record(
    experiment: Experiment,
    seed: int,
    images: ImageSet,
    test: ImageSet,
    training: Training,
    origin: Run | None,
    scores: dict[str, Any],
) -> dict[str, Any]:
    values = experiment.values()
    plain = EXPERIMENTS.get(experiment.name, experiment).values()
    for settings in (values, plain):  # a folder's place is nobody else's business
        if settings["images"].startswith("folder:"):
            settings["images"] = f"folder:{Path(settings['images']).name}"
    stride = max(1, -(-len(training.history) // HISTORY_POINTS))
    thinned = training.history[::-1][::stride][::-1]  # the last epoch is always there
    thinned = [{k: v for k, v in row.items() if k != "seconds"} for row in thinned]
    return {
        "format": 1,
        "experiment": experiment.name,
        "overrides": {path: value for path, value in values.items() if value != plain[path]},
        "seed": seed,
        "data": {
            "name": values["images"],
            "train_split": images.split,
            "train_images": len(images),
            "train_fingerprint": images.fingerprint,
            "skipped_files": len(images.skipped),
            "test_split": test.split,
            "test_images": len(test),
            "test_fingerprint": test.fingerprint,
            "shape": list(images.images.shape[1:]),
        },
        **scores,
        "protocol": _protocol(experiment),
        "epoch": training.history[-1]["epoch"],
        "minutes": round(training.seconds / 60, 3),
        "images_per_second": round(training.images_per_second, 1),
        "precision": training.precision,
        "hardware": hardware(training.device, training.processes),
        "start": origin
        and {key: origin.record[key] for key in ("experiment", "seed", "metrics", "minutes")},
        "settings": json.loads(json.dumps(values)),
        "history": thinned,
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "torchvision": version("torchvision"),
            "scikit-learn": version("scikit-learn"),
        },
        "source": source_fingerprint(),
    }


def _protocol(experiment: Experiment) -> dict[str, Any]:
    """What names the main row of the protocols."""
    if experiment.method == "finetune":
        return {"kind": "ten crops"}
    if experiment.method == "imc-swav":
        return {"kind": "argmax p", "batch_norm": BATCH_NORM[0]}
    if METHODS[experiment.method].clusters_itself:
        return {"kind": "argmax p", "mapping": experiment.mapping}
    return dataclasses.asdict(experiment.protocol)
