"""An adapter on disk: a folder with `adapter.safetensors` (the tensors) and `adapter.json` (everything else)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from quickstudy.core.errors import FileRefused, InputError
from quickstudy.core.files import (
    atomic_folder,
    check_schema,
    check_template,
    read_json,
    read_tensors,
    write_json,
    write_tensors,
)
from quickstudy.core.types import Adapter, Fingerprint, Json
from quickstudy.version import VERSION

SCHEMA = 1
"""The schema version that is written, and the newest that is read."""

TENSORS = "adapter.safetensors"
FACTS = "adapter.json"

_FIELDS: dict[str, type | tuple[type, ...]] = {
    "schema_version": int,
    "quickstudy": str,
    "learner": str,
    "labels": list,
    "base": (dict, type(None)),
    "tensors": dict,
    "facts": dict,
    "metrics": dict,
    "support_hash": str,
    "parent": str,
}
_DTYPES = {
    str(dtype).removeprefix("torch."): dtype
    for dtype in (
        *(torch.float16, torch.bfloat16, torch.float32, torch.float64),
        *(torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64, torch.bool),
    )
}
_LARGEST = 2**40


def save_adapter(folder: Path | str, adapter: Adapter) -> None:
    """Writes `adapter` as `folder`, whole or not at all. An adapter that was there is replaced.

    Raises:
        InputError: as `write_adapter`; the folder holds other files; no space or permission.
    """
    with atomic_folder(folder) as temporary:
        write_adapter(temporary, adapter)


def write_adapter(folder: Path, adapter: Adapter) -> None:
    """Writes the two files of `adapter` into `folder`, beside what is there; for use within `atomic_folder`.

    Raises:
        InputError: a tensor with NaN or infinity or of a type without a name here; facts or metrics that JSON would
            not give back as they are (tuples, keys that are no strings, NaN).
    """
    for name, tensor in adapter.tensors.items():
        _check_writable(folder, name, tensor)
    described = {
        "schema_version": SCHEMA,
        "quickstudy": VERSION,
        "learner": adapter.learner,
        "labels": list(adapter.labels),
        "base": _base_fields(adapter.base),
        "tensors": {name: _described(tensor) for name, tensor in adapter.tensors.items()},
        "facts": dict(adapter.facts),
        "metrics": dict(adapter.metrics),
        "support_hash": adapter.support_hash,
        "parent": adapter.parent,
    }
    write_json(folder / FACTS, described)
    returned = json.loads((folder / FACTS).read_bytes())
    changed = [name for name, value in described.items() if returned[name] != value]
    if changed:
        raise InputError(
            f"{folder}: {', '.join(changed)} would come back changed from JSON; use lists and dicts with string keys"
        )
    write_tensors(folder / TENSORS, adapter.tensors)


def load_adapter(
    folder: Path | str, base: Fingerprint | None = None, template: Mapping[str, Tensor] | None = None
) -> Adapter:
    """The adapter in `folder`, tensors on the CPU and equal to the bit.

    Args:
        folder: what `save_adapter` wrote.
        base: the fingerprint of the base that the adapter is for; None leaves this unchecked.
        template: name -> tensor with the names, shapes and types expected ("meta" tensors do); None takes those that
            the JSON states.

    Raises:
        FileRefused: with the reason, one of `core.files.REASONS`.
    """
    facts_path, tensors_path = Path(folder) / FACTS, Path(folder) / TENSORS
    described = read_json(facts_path)
    _check_fields(facts_path, described)
    found = _base_of(facts_path, described["base"])
    if base is not None:
        _check_base(facts_path, found, base)
    tensors = read_tensors(tensors_path)
    check_template(tensors_path, tensors, _stated_template(facts_path, described["tensors"]))
    if template is not None:
        check_template(tensors_path, tensors, template)
    return Adapter(
        tensors={name: tensors[name] for name in described["tensors"]},
        learner=described["learner"],
        labels=tuple(described["labels"]),
        base=found,
        facts=described["facts"],
        metrics=described["metrics"],
        support_hash=described["support_hash"],
        parent=described["parent"],
    )


def _check_writable(folder: Path, name: str, tensor: Tensor) -> None:
    if tensor.dtype not in _DTYPES.values():
        raise InputError(f"{folder}: tensor {name!r} is {tensor.dtype}; expected one of {', '.join(_DTYPES)}")
    if tensor.is_floating_point() and not torch.isfinite(tensor).all():
        raise InputError(f"{folder}: tensor {name!r} holds NaN or infinity; adapt again with a lower learning rate")


def _described(tensor: Tensor) -> Json:
    return {"shape": list(tensor.shape), "dtype": str(tensor.dtype).removeprefix("torch.")}


def _base_fields(base: Fingerprint | None) -> Json:
    return None if base is None else {"name": base.name, "revision": base.revision, "digest": base.digest}


def _check_fields(path: Path, described: Json) -> None:
    if not isinstance(described, dict):
        raise _malformed(path, "the whole", described, "an object")
    if "schema_version" not in described:
        raise FileRefused(path, "missing_keys", "lacks 'schema_version'; it is not an adapter of ours")
    check_schema(path, described["schema_version"], SCHEMA)
    for reason, names in (("missing_keys", _FIELDS.keys() - described), ("extra_keys", described.keys() - _FIELDS)):
        if names:
            verb = "lacks" if reason == "missing_keys" else "also holds"
            raise FileRefused(path, reason, f"{verb} {', '.join(map(repr, sorted(names)))}; save the adapter again")
    for name, kind in _FIELDS.items():
        if not isinstance(described[name], kind):
            raise _malformed(path, name, described[name], str(kind))
    if not all(isinstance(label, str) for label in described["labels"]):
        raise _malformed(path, "labels", described["labels"], "a list of strings")
    for name, value in described["metrics"].items():
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise _malformed(path, f"metrics.{name}", value, "a number")


def _base_of(path: Path, stated: Json) -> Fingerprint | None:
    if stated is None:
        return None
    if stated.keys() != {"name", "revision", "digest"} or not all(isinstance(value, str) for value in stated.values()):
        raise _malformed(path, "base", stated, "name, revision and digest, all strings")
    return Fingerprint(**stated)


def _check_base(path: Path, found: Fingerprint | None, base: Fingerprint) -> None:
    if found is not None and found.digest == base.digest:
        return
    was = "no base file" if found is None else f"{found.name!r} (weights {found.digest[:12]})"
    message = f"was made for {was}, this is {base.name!r} (weights {base.digest[:12]}); load that base or adapt again"
    raise FileRefused(path, "wrong_base", message)


def _stated_template(path: Path, stated: Json) -> dict[str, Tensor]:
    template = {}
    for name, one in stated.items():
        if not isinstance(one, dict) or not _is_shape(one.get("shape")) or str(one.get("dtype")) not in _DTYPES:
            raise _malformed(path, f"tensors.{name}", one, "a shape and a dtype")
        shape, dtype = one["shape"], one["dtype"]
        try:
            template[name] = torch.empty(shape, dtype=_DTYPES[dtype], device="meta")
        except RuntimeError as error:
            raise _malformed(path, f"tensors.{name}", one, "a shape that a tensor can have") from error
    return template


def _is_shape(value: Json) -> bool:
    return isinstance(value, list) and all(type(size) is int and 0 <= size < _LARGEST for size in value)


def _malformed(path: Path, field: str, value: Json, expected: str) -> FileRefused:
    return FileRefused(path, "not_json", f"{field} is {str(value)[:80]!r}, expected {expected}; save the adapter again")
