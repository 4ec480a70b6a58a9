"""What a learner, tasks and options are, as strings that a later process can compare."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from types import FunctionType
from typing import Any

import torch
from torch import Tensor

LONGEST = 16
"""Lists with more entries are described by a digest."""

ABSENT = "absent"


def described(value: Any, name: str) -> dict[str, str]:
    """Dotted name below `name` -> what is there.

    Dataclasses, lists and mappings are opened; tensors are told by shape and digest; of functions and other objects
    the name of the function or type counts, for nothing else is sure to be the same in another process.
    """
    if is_dataclass(value) and not isinstance(value, type):
        parts = {f"{name}.{field.name}": getattr(value, field.name) for field in fields(value)}
        return {name: _type_name(type(value)), **_opened(parts)}
    if isinstance(value, Mapping):
        return _listed(name, "mapping", {f"{name}.{key}": item for key, item in value.items()})
    if isinstance(value, list | tuple):
        return _listed(name, "list", {f"{name}.{number}": item for number, item in enumerate(value)})
    if isinstance(value, Tensor):
        return {name: f"{value.dtype!s} {list(value.shape)} {tensor_digest(value)}"}
    return {name: _plain(value)}


def params_digest(params: Mapping[str, Tensor]) -> str:
    """A digest of names, shapes, types and values."""
    parts = {name: [str(t.dtype), list(t.shape), tensor_digest(t)] for name, t in sorted(params.items())}
    return hashlib.sha256(repr(parts).encode()).hexdigest()


def tensor_digest(tensor: Tensor) -> str:
    """SHA-256 of the tensor's bytes, wherever it lies."""
    plain = tensor.detach().cpu().contiguous().flatten()
    return hashlib.sha256(plain.view(torch.uint8).numpy().tobytes()).hexdigest()


def first_difference(before: Mapping[str, str], now: Mapping[str, str]) -> str:
    """A sentence part that names the first field that differs; "" where all are the same.

    A field that is None is as good as absent: that is what a field says that came with a later version and is not used.
    """
    for name in [*before, *(name for name in now if name not in before)]:
        was, is_now = before.get(name, ABSENT), now.get(name, ABSENT)
        if was != is_now and not {was, is_now} <= {ABSENT, repr(None)}:
            return f"{name} was {was[:200]}, is now {is_now[:200]}"
    return ""


def _opened(parts: Mapping[str, Any]) -> dict[str, str]:
    return {key: text for name, part in parts.items() for key, text in described(part, name).items()}


def _listed(name: str, kind: str, parts: Mapping[str, Any]) -> dict[str, str]:
    opened = _opened(parts)
    head = f"{kind} of {len(parts)}"
    if len(parts) <= LONGEST:
        return {name: head, **opened}
    return {name: f"{head} {hashlib.sha256(repr(opened).encode()).hexdigest()}"}


def _plain(value: Any) -> str:
    if value is None or isinstance(value, bool | int | float | str | Path | torch.dtype | torch.device):
        return repr(value)
    if isinstance(value, set | frozenset):
        return repr(sorted(map(repr, value)))
    return _type_name(value if isinstance(value, type | FunctionType) else type(value))


def _type_name(named: Any) -> str:
    return f"{named.__module__}.{named.__qualname__}"
