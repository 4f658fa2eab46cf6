"""What a result depends on besides its settings: the code, the machine, the versions."""

import hashlib
import platform
from functools import cache
from importlib.metadata import version
from pathlib import Path

import torch

import mixem

__all__ = ["SOURCES", "hardware", "source_fingerprint", "versions"]

# What a trained network and its scores depend on.
SOURCES = (
    "data",
    "models",
    "losses",
    "methods",
    "clustering",
    "evaluation",
    "training",
    "devices.py",
    "distributed.py",
    "scoring.py",
)


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


def versions() -> dict[str, str]:
    """Of Python and the packages that a number depends on; of CUDA and cuDNN where there are."""
    found = {
        "mixem": mixem.__version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "torchvision": version("torchvision"),
        "scikit-learn": version("scikit-learn"),
    }
    if torch.cuda.is_available():
        found |= {"cuda": str(torch.version.cuda), "cudnn": str(torch.backends.cudnn.version())}
    return found
