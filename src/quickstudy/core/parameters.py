"""Pure functions on trees of parameters: flat dictionaries, dotted name -> tensor."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Mapping
from fnmatch import fnmatchcase
from typing import Any, TypeAlias

import torch
from torch import Tensor

from quickstudy.core.types import Params

Pattern: TypeAlias = str | re.Pattern[str]
"""A shell pattern such as `body.*.bias`, or a compiled expression that must match the whole name."""


def flatten(nested: Mapping[str, Any], prefix: str = "") -> Params:
    """The tensors of nested dictionaries under their dotted names, in order.

    Raises:
        ValueError: a leaf is not a tensor, or two leaves get the same name.
    """
    flat: Params = {}
    for key, value in nested.items():
        name = f"{prefix}{key}"
        found = flatten(value, f"{name}.") if isinstance(value, Mapping) else {name: value}
        if not all(isinstance(leaf, Tensor) for leaf in found.values()):
            raise ValueError(f"{name!r} holds a {type(value).__name__}; a tree of parameters holds tensors only")
        if taken := flat.keys() & found.keys():
            raise ValueError(f"two tensors are named {min(taken)!r}; rename one of the nested keys")
        flat.update(found)
    return flat


def unflatten(params: Params) -> dict[str, Any]:
    """Nested dictionaries, one level for each dot: the inverse of `flatten`.

    Raises:
        ValueError: one name is the beginning of another (`a` and `a.b`).
    """
    nested: dict[str, Any] = {}
    for name, tensor in params.items():
        *folders, last = name.split(".")
        level = nested
        for folder in folders:
            level = level.setdefault(folder, {})
            if not isinstance(level, dict):
                raise ValueError(f"{name!r} goes below {folder!r}, which is a tensor itself; rename one of them")
        if last in level:
            raise ValueError(f"{name!r} is a tensor and has tensors below it; rename one of them")
        level[last] = tensor
    return nested


def matches(name: str, patterns: Iterable[Pattern]) -> bool:
    """Whether any of `patterns` matches the whole of `name`."""
    return any(fnmatchcase(name, p) if isinstance(p, str) else p.fullmatch(name) is not None for p in patterns)


def split(params: Params, patterns: Iterable[Pattern]) -> tuple[Params, Params]:
    """`(matching, others)`, each in the order of `params`.

    Raises:
        ValueError: a pattern matches no name, which is most often a slip of the pen.
    """
    patterns = tuple(patterns)
    for pattern in patterns:
        if not any(matches(name, [pattern]) for name in params):
            shown = ", ".join(list(params)[:5])
            raise ValueError(f"the pattern {pattern!r} matches no parameter; the names are {shown or 'none'}, ...")
    chosen = {name: tensor for name, tensor in params.items() if matches(name, patterns)}
    return chosen, {name: tensor for name, tensor in params.items() if name not in chosen}


def transform(function: Callable[..., Tensor], params: Params, *others: Mapping[str, Tensor]) -> Params:
    """`function` of the tensors of each name; `others` have at least the names of `params`."""
    return {name: function(tensor, *(other[name] for other in others)) for name, tensor in params.items()}


def detach(params: Params) -> Params:
    """The same values with no history; storage is shared."""
    return transform(torch.Tensor.detach, params)


def norm(params: Params) -> Tensor:
    """The Euclidean norm of all entries together, a scalar; its gradient at zero is zero."""
    squares = [tensor.square().sum() for tensor in params.values()]
    if not squares:
        return torch.zeros(())
    total = torch.stack(squares).sum()
    zero = total == 0
    return torch.where(zero, 0.0, torch.where(zero, 1.0, total).sqrt())


def clip_by_norm(params: Params, limit: float) -> Params:
    """`params`, scaled down together where their norm is above `limit`."""
    length = norm(params)
    above = length > limit
    scale = torch.where(above, limit / torch.where(above, length, 1.0), 1.0)
    return {name: tensor * scale for name, tensor in params.items()}


def to_vector(params: Params) -> Tensor:
    """[entry]: all tensors, flattened, one after the other in the order of `params`."""
    if not params:
        return torch.zeros(0)
    return torch.cat([tensor.reshape(-1) for tensor in params.values()])


def from_vector(vector: Tensor, like: Params) -> Params:
    """Names and shapes of `like` with the entries of `vector` [entry]: the inverse of `to_vector`.

    Raises:
        ValueError: the number of entries differs.
    """
    sizes = [tensor.numel() for tensor in like.values()]
    if vector.shape != (sum(sizes),):
        raise ValueError(f"the vector has shape {tuple(vector.shape)}, the tree has {sum(sizes)} entries")
    parts = torch.split(vector, sizes) if sizes else ()
    return {name: part.reshape(like[name].shape) for name, part in zip(like, parts, strict=True)}


def digest(params: Mapping[str, Tensor]) -> str:
    """SHA-256 over names, shapes, types and bytes, in hexadecimal; the order of the names does not count."""
    found = hashlib.sha256()
    for name in sorted(params):
        tensor = params[name].detach().cpu().contiguous()
        found.update(f"{name} {tuple(tensor.shape)} {tensor.dtype};".encode())
        found.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return found.hexdigest()
