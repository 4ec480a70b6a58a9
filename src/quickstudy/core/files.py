"""Files of tensors and facts: safetensors and JSON, written whole or not at all, refused by name when wrong.

A file is written beside its place, flushed to the disk and renamed, so a reader sees the old one or the new one. No
pickle is ever read.
"""

from __future__ import annotations

import errno
import json
import math
import os
import secrets
import shutil
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath, PureWindowsPath

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from quickstudy.core.errors import FileRefused, InputError
from quickstudy.core.types import Json

REASONS = (
    "missing_file",
    "missing_keys",
    "extra_keys",
    "wrong_rank",
    "wrong_shape",
    "wrong_dtype",
    "not_finite",
    "wrong_base",
    "truncated",
    "newer_schema",
    "pickle",
    "outside_folder",
    "symlink",
    "not_json",
    "too_large",
)
"""Every `FileRefused.reason`."""

JSON_LIMIT = 16 * 2**20
"""Bytes: a larger JSON file is refused before it is parsed."""

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def write_bytes(path: Path | str, data: bytes) -> None:
    """Puts `data` at `path`, whole or not at all; missing folders are made, an existing file is replaced.

    Raises:
        InputError: no space, no permission, or a folder in the way; the old file is still there and nothing else.
    """
    with atomic_file(path) as temporary:
        temporary.write_bytes(data)


@contextmanager
def atomic_file(path: Path | str) -> Iterator[Path]:
    """Yields a place for a file, which is named `path` at the end of the block, and vanishes if the block fails.

    Missing folders are made; a file at `path` is replaced.

    Raises:
        InputError: as `write_bytes`, for every `OSError` in the block.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(6)}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
        _sync_folder(path.parent)
    except OSError as error:
        raise _cannot_write(path, error) from error
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def write_tensors(path: Path | str, tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None) -> None:
    """Writes name -> tensor as safetensors, with `metadata` in its header. Strides, devices and sharing are not kept.

    Raises:
        InputError: as `write_bytes`.
    """
    plain = {k: v.detach().cpu().clone(memory_format=torch.contiguous_format) for k, v in tensors.items()}
    write_bytes(path, save(plain, dict(metadata) if metadata else None))


def read_tensors(path: Path | str) -> dict[str, Tensor]:
    """Name -> tensor, on the CPU.

    Raises:
        FileRefused: missing_file, symlink, truncated, pickle or not_finite.
    """
    return read_tensors_and_metadata(path)[0]


def read_tensors_and_metadata(path: Path | str) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Name -> tensor, and the strings of the header, from one reading.

    Raises:
        FileRefused: as `read_tensors`.
    """
    path = Path(path)
    data = _read(path)
    try:
        tensors = load(data)
    except (SafetensorError, ValueError, KeyError, RuntimeError) as error:
        raise _not_safetensors(path, data, error) from error
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not _is_finite(tensor):
            message = f"tensor {name!r} holds NaN or infinity; make the file again from a run that did not diverge"
            raise FileRefused(path, "not_finite", message)
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    return tensors, header.get("__metadata__") or {}


def read_template(path: Path | str, template: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Name -> tensor, with exactly the names, shapes and types of `template`, whose values are never read.

    Tensors on the "meta" device do as a template.

    Raises:
        FileRefused: as `read_tensors`; also missing_keys, extra_keys, wrong_rank, wrong_shape or wrong_dtype.
    """
    tensors = read_tensors(path)
    check_template(path, tensors, template)
    return tensors


def check_template(path: Path | str, tensors: Mapping[str, Tensor], template: Mapping[str, Tensor]) -> None:
    """Refuses `tensors`, read from `path`, whose names, shapes or types are not those of `template`.

    Raises:
        FileRefused: missing_keys, extra_keys, wrong_rank, wrong_shape or wrong_dtype.
    """
    path = Path(path)
    missing, extra = sorted(template.keys() - tensors.keys()), sorted(tensors.keys() - template.keys())
    if missing:
        raise FileRefused(path, "missing_keys", f"lacks {_listed(missing)}; it was made for something else")
    if extra:
        raise FileRefused(path, "extra_keys", f"also holds {_listed(extra)}; it was made for something else")
    for name, wanted in template.items():
        found = tensors[name]
        if found.dim() != wanted.dim():
            reason = "wrong_rank"
        elif found.shape != wanted.shape:
            reason = "wrong_shape"
        elif found.dtype != wanted.dtype:
            reason = "wrong_dtype"
        else:
            continue
        message = f"tensor {name!r} is {_described(found)}, expected {_described(wanted)}; use the file made for this"
        raise FileRefused(path, reason, message)


def write_json(path: Path | str, obj: Json) -> None:
    """Writes `obj` as indented UTF-8 JSON.

    Raises:
        InputError: a value that JSON has no word for, NaN and infinity included; or as `write_bytes`.
    """
    try:
        text = json.dumps(obj, allow_nan=False, ensure_ascii=False, indent=2)
        data = f"{text}\n".encode()
    except (ValueError, TypeError, RecursionError) as error:
        raise InputError(f"{path}: cannot be written as JSON: {error}; give plain finite values") from error
    if len(data) > JSON_LIMIT:
        raise InputError(f"{path}: {len(data)} bytes of JSON, at most {JSON_LIMIT}; large values belong in tensors")
    write_bytes(path, data)


def read_json(path: Path | str, limit: int = JSON_LIMIT) -> Json:
    """What the JSON file holds.

    Raises:
        FileRefused: missing_file, symlink, too_large (over `limit` bytes), pickle, or not_json (NaN and infinity too).
    """
    path = Path(path)
    data = _read(path, limit)
    if _is_pickle(data):
        raise FileRefused(path, "pickle", "is a pickle, which can run code when it is read; expected JSON")
    return parse_json(path, data)


def parse_json(path: Path | str, data: bytes | str) -> Json:
    """What the JSON in `data` says; `path` is for the message.

    Raises:
        FileRefused: not_json.
    """
    try:
        text = data if isinstance(data, str) else data.decode("utf-8")
        return json.loads(text, parse_constant=_refuse_constant, parse_float=_finite)
    except (ValueError, RecursionError) as error:
        raise FileRefused(Path(path), "not_json", f"is not JSON: {error}; make the file again") from error


def check_schema(path: Path | str, found: Json, newest: int) -> None:
    """Refuses a schema version that this package does not know.

    Raises:
        FileRefused: newer_schema; not_json where `found` is no whole number from 1.
    """
    if not isinstance(found, int) or isinstance(found, bool) or found < 1:
        raise FileRefused(Path(path), "not_json", f"schema_version is {found!r}, expected a whole number from 1")
    if found > newest:
        message = f"has schema version {found}, this quickstudy reads up to {newest}; install a newer quickstudy"
        raise FileRefused(Path(path), "newer_schema", message)


def safe_member(root: Path | str, name: str) -> Path:
    """The path of `name` inside the folder `root`; it need not exist.

    Raises:
        FileRefused: outside_folder for an absolute path, a `..` or an empty name; symlink where a part is one.
    """
    root = Path(root)
    parts = PurePosixPath(name).parts
    absolute = PurePosixPath(name).is_absolute() or PureWindowsPath(name).drive or "\\" in name
    if absolute or ".." in parts or not parts or "\0" in name:
        message = f"refers to {name!r}, which may lie outside it; give a plain relative name"
        raise FileRefused(root, "outside_folder", message)
    path = root
    for part in parts:
        path = path / part
        if path.is_symlink():
            raise FileRefused(path, "symlink", "is a symbolic link; copy the file itself into the folder")
    return path


@contextmanager
def atomic_folder(path: Path | str, droppable: Collection[str] = ()) -> Iterator[Path]:
    """Yields an empty folder that becomes `path` at the end of the block, and vanishes if the block fails.

    A folder at `path` is replaced, but only where nothing of others is lost: each of its entries must be written anew
    or be named in `droppable`.

    Raises:
        InputError: `path` is a file, a link or a folder with other entries; or no space or permission.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(6)}.tmp")
    written = False
    try:
        _make_folder(temporary)
        yield temporary
        written = True
        _check_replaceable(path, {entry.name for entry in temporary.iterdir()} | set(droppable))
        _sync_tree(temporary)
        _swap_in(temporary, path)
    except OSError as error:
        if written or error.errno in _FULL:
            raise _cannot_write(path, error) from error
        raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _make_folder(path: Path) -> None:
    try:
        path.mkdir(parents=True)
    except OSError as error:
        raise _cannot_write(path, error) from error


def _check_replaceable(path: Path, names: set[str]) -> None:
    if path.is_symlink() or (path.exists() and not path.is_dir()):
        raise InputError(f"{path}: is not a folder; choose another place")
    others = sorted({entry.name for entry in path.iterdir()} - names) if path.exists() else []
    if others:
        raise InputError(f"{path}: holds {_listed(others)}, which would be lost; choose another folder or move them")


def _swap_in(temporary: Path, path: Path) -> None:
    old = path.with_name(f"{temporary.name}.old")
    if path.exists():
        os.rename(path, old)
    try:
        os.rename(temporary, path)
    except BaseException:
        if old.exists():
            os.rename(old, path)
        raise
    _sync_folder(path.parent)
    shutil.rmtree(old, ignore_errors=True)


def _sync_tree(folder: Path) -> None:
    for entry in [*folder.rglob("*"), folder]:
        if entry.is_dir():
            _sync_folder(entry)
            continue
        with entry.open("rb+") as file:
            os.fsync(file.fileno())


def _sync_folder(folder: Path) -> None:
    if os.name != "posix":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _read(path: Path, limit: int | None = None) -> bytes:
    if path.is_symlink():
        raise FileRefused(path, "symlink", "is a symbolic link; give the file itself")
    if not path.is_file():
        raise FileRefused(path, "missing_file", "there is no such file; check the name")
    try:
        with path.open("rb") as file:
            data = file.read(-1 if limit is None else limit + 1)
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from error
    if limit is not None and len(data) > limit:
        raise FileRefused(path, "too_large", f"is larger than {limit} bytes; this is not a file of ours")
    return data


def _is_pickle(data: bytes) -> bool:
    return data[:4] == b"PK\x03\x04" or (data[:1] == b"\x80" and data[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05"))


def _is_finite(tensor: Tensor) -> bool:
    """Eight-bit floats have no `isfinite` of their own."""
    return bool(torch.isfinite(tensor.float() if tensor.element_size() == 1 else tensor).all())


def _not_safetensors(path: Path, data: bytes, error: Exception) -> FileRefused:
    if _is_pickle(data):
        return FileRefused(path, "pickle", "is a pickle, which can run code when it is read; expected safetensors")
    return FileRefused(path, "truncated", f"is cut short or damaged ({error}); copy or make it again")


def _refuse_constant(word: str) -> float:
    raise ValueError(f"{word} is not a JSON number")


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text} is too large for a number")
    return value


def _cannot_write(path: Path, error: OSError) -> InputError:
    if error.errno in _FULL:
        return InputError(f"{path}: no space left to write it; free some space and run again; nothing was changed")
    return InputError(f"{path}: cannot be written: {error.strerror or error}; choose another place")


def _listed(names: list[str]) -> str:
    shown = ", ".join(repr(name) for name in names[:5])
    return shown if len(names) <= 5 else f"{shown} and {len(names) - 5} more"


def _described(tensor: Tensor) -> str:
    return f"{list(tensor.shape)} {str(tensor.dtype).removeprefix('torch.')}"
