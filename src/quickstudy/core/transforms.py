"""What `torch.func` is doing just now: some kernels and shortcuts do not work under its transforms."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from quickstudy.core.errors import NotAvailable


def transformed() -> bool:
    """Whether this runs under `torch.vmap`, `torch.func.grad` or another transform of functions."""
    return torch._C._functorch.peek_interpreter_stack() is not None


def refuse_transforms(option: str) -> None:
    """Nothing, where no transform is at work.

    Args:
        option: the field that does not work under one, e.g. "checkpoint".

    Raises:
        NotAvailable: one is.
    """
    if transformed():
        raise NotAvailable(
            f"{option}=True does not work under torch.vmap or torch.func.grad: "
            f'run the tasks with mode="loop" and differentiate with torch.autograd, or switch {option} off'
        )


def is_mapped(tensor: Tensor) -> bool:
    """Whether `tensor` stands for one of many under `torch.vmap`, so that its values cannot be asked for."""
    functorch = torch._C._functorch
    while functorch.is_gradtrackingtensor(tensor):
        tensor = functorch.get_unwrapped(tensor)
    return bool(functorch.is_batchedtensor(tensor))


def maps_any(tensors: Iterable[Tensor]) -> bool:
    """Whether the innermost transform is a `torch.vmap` and one of `tensors` is what it maps."""
    functorch = torch._C._functorch
    top = functorch.peek_interpreter_stack()
    if top is None or top.key() != functorch.TransformType.Vmap:
        return False
    return any(functorch.maybe_get_level(tensor) == top.level() for tensor in tensors)
