"""Can a model be differentiated twice? If not, what to change.

Fused scaled-dot-product attention has no second derivative. Whether a model uses it depends on the mode (dropout above
0 in training switches it off), on the mask and on the device, so the question is put to the model itself.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.attention import SDPBackend, sdpa_kernel

from quickstudy.core.errors import NoSecondOrder
from quickstudy.core.types import Info, Params

_MISSING = ("is not implemented", "once_differentiable", "not differentiable twice")


def supports_second_order(function: Callable[..., Tensor], params: Params, *inputs: Any) -> bool:
    """Whether the gradient of `function(params, *inputs)` can itself be differentiated by `params`.

    Runs forward, backward and backward of the backward once; give it a small input. `params` are not changed.

    Raises:
        RuntimeError: whatever goes wrong that is not a missing derivative.
    """
    leaves = {name: tensor.detach().requires_grad_() for name, tensor in params.items() if tensor.is_floating_point()}
    names = list(leaves.values())
    with torch.enable_grad():
        try:
            value = function({**params, **leaves}, *inputs).square().sum()
            grads = torch.autograd.grad(value, names, create_graph=True, materialize_grads=True)
            length = torch.stack([grad.square().sum() for grad in grads]).sum()
            if length.requires_grad:
                torch.autograd.grad(length, names, allow_unused=True)
        except RuntimeError as error:
            if any(words in str(error) for words in _MISSING):
                return False
            raise
    return True


def ensure_second_order(
    module: nn.Module,
    call: Callable[[nn.Module], Tensor],
    switch: Callable[[], None] | None = None,
    params: Params | None = None,
) -> Info:
    """What was done so that `module` can be differentiated twice, in train() and in eval(); empty where nothing was.

    Args:
        module: keeps its tensors and its mode.
        call: runs the module on a small input, with padding where the real input has any.
        switch: makes the module use attention with a second derivative, for a transformers model
            `lambda: model.set_attn_implementation("eager")`. Called only if needed.
        params: the tensors that will move, by their names in `module`; all of its parameters when None.

    Raises:
        NoSecondOrder: a second derivative is missing and `switch` is None or did not help.
    """
    chosen: Params = {**dict(module.named_parameters())} if params is None else params
    if _both_modes(module, call, chosen):
        return Info()
    name = type(module).__name__
    if switch is not None:
        switch()
        if _both_modes(module, call, chosen):
            note = f"{name}: attention was switched, because the fused kernel has no second derivative"
            return Info(notes=(note,))
    raise NoSecondOrder(
        f"{name} cannot be differentiated twice"
        + (", not even with attention switched" if switch else " and offers no other attention")
        + ': use a first-order method (order="first"), or call it under core.math_attention()'
    )


def math_attention() -> AbstractContextManager[None]:
    """A context in which scaled-dot-product attention is computed by plain operators that have all derivatives.

    For modules that offer no switch. It must hold for the forward and, with checkpointing, the backward; it sets a flag
    of the whole process, so other threads see it too.
    """
    context: AbstractContextManager[None] = sdpa_kernel(SDPBackend.MATH)
    return context


class _Called(nn.Module):
    """`call` of a module, as a module, so that `functional_call` can stand in for its parameters."""

    def __init__(self, module: nn.Module, call: Callable[[nn.Module], Tensor]) -> None:
        super().__init__()
        self.module = module
        self.call = call

    def forward(self) -> Tensor:
        return self.call(self.module)


def _both_modes(module: nn.Module, call: Callable[[nn.Module], Tensor], params: Params) -> bool:
    called = _Called(module, call)
    named = {f"module.{name}": tensor for name, tensor in params.items()}
    modes = [(part, part.training) for part in module.modules()]
    try:
        for training in (True, False):
            module.train(training)
            if not supports_second_order(lambda leaves: functional_call(called, leaves, ()), named):
                return False
    finally:
        for part, training in modes:
            part.training = training
    return True


def refuse_inner_checkpointing(module: nn.Module) -> nn.Module:
    """`module` as it is, if none of its parts checkpoints its own activations.

    Such a part runs again during the backward, when `functional_call` has already put the module's own parameters back,
    so its gradients would belong to other parameters, with no error.

    Raises:
        NoSecondOrder: a part has gradient checkpointing switched on.
    """
    for name, part in module.named_modules():
        if getattr(part, "gradient_checkpointing", False) is True:
            where = name or type(part).__name__
            raise NoSecondOrder(
                f"{where} has its own gradient checkpointing switched on, which gives wrong gradients here: "
                "call model.gradient_checkpointing_disable() and use InnerLoop(checkpoint=True) instead"
            )
    return module
