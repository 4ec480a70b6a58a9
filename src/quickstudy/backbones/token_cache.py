"""Activations of a frozen prefix, kept per text in memory and, if a folder is given, on disk."""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from quickstudy.core.errors import FileRefused
from quickstudy.core.files import read_tensors_and_metadata, write_tensors

MEMORY_LIMIT = 1 << 30


def cache_key(text: str, *base: object) -> str:
    """SHA-256 in hexadecimal of the text and of everything in `base` that the activations depend on."""
    digest = hashlib.sha256(repr(base).encode())
    digest.update(text.encode())
    return digest.hexdigest()


class TokenCache:
    """Key -> activations [token, width]. Safe to use from several threads.

    Args:
        folder: where files are kept; None for memory only. A file that cannot be read counts as absent.
        limit: most bytes held in memory; the entries unused for longest go first.
    """

    def __init__(self, folder: Path | None = None, limit: int = MEMORY_LIMIT) -> None:
        self._folder = folder
        self._limit = limit
        self._held: OrderedDict[str, Tensor] = OrderedDict()
        self._bytes = 0
        self._lock = threading.Lock()

    def __reduce__(self) -> tuple[Any, ...]:
        """Copies and other processes start with an empty memory and the same folder."""
        return TokenCache, (self._folder, self._limit)

    @property
    def held_bytes(self) -> int:
        """Bytes of activations in memory."""
        return self._bytes

    def get(self, key: str) -> Tensor | None:
        """The activations, or None if they are not there or their file is damaged."""
        with self._lock:
            if key in self._held:
                self._held.move_to_end(key)
                return self._held[key]
        found = self._read(key)
        if found is not None:
            self._hold(key, found)
        return found

    def put(self, key: str, hidden: Tensor) -> None:
        """Keeps `hidden` [token, width]."""
        self._hold(key, hidden)
        if self._folder is not None:
            plain = hidden.cpu().contiguous()
            write_tensors(self._path(self._folder, key), {"hidden": plain}, {"sha256": _digest(plain)})

    def _hold(self, key: str, hidden: Tensor) -> None:
        with self._lock:
            before = self._held.pop(key, None)
            self._bytes += hidden.nbytes - (before.nbytes if before is not None else 0)
            self._held[key] = hidden
            while self._bytes > self._limit and self._held:
                self._bytes -= self._held.popitem(last=False)[1].nbytes

    def _read(self, key: str) -> Tensor | None:
        if self._folder is None:
            return None
        path = self._path(self._folder, key)
        if not path.is_file():
            return None
        try:
            tensors, facts = read_tensors_and_metadata(path)
        except FileRefused:
            return None
        hidden = tensors.get("hidden")
        if hidden is None or hidden.dim() != 2 or facts.get("sha256") != _digest(hidden):
            return None
        return hidden

    def _path(self, folder: Path, key: str) -> Path:
        return folder / key[:2] / f"{key}.safetensors"


def _digest(hidden: Tensor) -> str:
    return hashlib.sha256(hidden.contiguous().reshape(-1).view(torch.uint8).numpy().data).hexdigest()
