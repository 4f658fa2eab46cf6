"""Classes without labels: the library under the book on IIC, MIX'EM and IMC-SwAV.

Its modules are loaded when they are first used, so that this is all it takes:

>>> import mixem
>>> mixem.losses.nt_xent.__name__
'nt_xent'
"""

import importlib
import pkgutil
from types import ModuleType

__version__ = "0.1.0"  # the only place that says so

__all__ = ["__version__"]


def __getattr__(name: str) -> ModuleType:
    if name in _modules():
        return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_modules()})


def _modules() -> list[str]:
    found = (module.name for module in pkgutil.iter_modules(__path__))
    return [name for name in found if not name.startswith("_")]
