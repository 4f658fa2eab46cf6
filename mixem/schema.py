"""Frozen dataclasses from JSON and back, checked against their annotations."""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from functools import cache
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

__all__ = ["from_json", "hints", "kinds", "to_json"]


@cache
def hints(kind: type) -> dict[str, Any]:
    """The annotations of a class by name, resolved."""
    return get_type_hints(kind)


def kinds(hint: Any) -> tuple[Any, ...]:
    """The annotations that one allows: ``(tuple[int, ...], NoneType)`` for their union."""
    return get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)


def to_json(value: Any) -> dict[str, Any]:
    """A dataclass as JSON has it."""
    return json.loads(json.dumps(dataclasses.asdict(value)))


def from_json(hint: Any, value: Any, path: str = "") -> Any:
    """What :func:`to_json` was given, or any value of an annotation.

    Args:
        hint: A dataclass, or any other annotation.
        value: As JSON has it.
        path: Of the value, for the error.

    Raises:
        TypeError: If a value is missing, unknown or of another type.
    """
    if hint is Any:
        return value
    for kind in kinds(hint):
        origin, inner = get_origin(kind) or kind, get_args(kind)
        if kind is NoneType:
            if value is None:
                return None
        elif origin is Literal:
            if value in inner:
                return value
        elif dataclasses.is_dataclass(origin) and isinstance(value, Mapping):
            return _dataclass(origin, value, path)
        elif origin in (tuple, list) and isinstance(value, Sequence) and not isinstance(value, str):
            every = inner[0] if inner else Any
            return origin(from_json(every, v, f"{path}[{i}]") for i, v in enumerate(value))
        elif isinstance(value, Mapping) and origin in (dict, Mapping):
            return {k: from_json(inner[1], v, f"{path}.{k}") for k, v in value.items()}
        elif origin is float and isinstance(value, int) and not isinstance(value, bool):
            return value  # JSON writes 1.0 as it was given
        elif type(value) is origin:
            return value
    raise TypeError(f"{path or 'the whole'} is {str(value)[:60]!r}, not {_named(hint)}")


def _dataclass(kind: Any, values: Mapping[str, Any], path: str) -> Any:
    fields = {field.name: field for field in dataclasses.fields(kind)}
    if unknown := set(values) - set(fields):
        raise TypeError(f"{path + '.' if path else ''}{min(unknown)} is unknown")
    for name, field in fields.items():
        has_default = (
            field.default is not dataclasses.MISSING
            or field.default_factory is not dataclasses.MISSING
        )
        if name not in values and not has_default:
            raise TypeError(f"{path + '.' if path else ''}{name} is missing")
    return kind(
        **{
            name: from_json(hints(kind)[name], value, f"{path}.{name}" if path else name)
            for name, value in values.items()
        }
    )


def _named(hint: Any) -> str:
    return " or ".join(getattr(k, "__name__", str(k)) for k in kinds(hint))
