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
from torch.overrides import TorchFunctionMode

from quickstudy.core.errors import NoSecondOrder
from quickstudy.core.types import Info, Params

_MISSING = ("is not implemented", "once_differentiable")


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
                torch.autograd.grad(length, names, allow_unused=True, retain_graph=True)
        except RuntimeError as error:
            if any(words in str(error) for words in _MISSING):
                return False
            raise
    return not _cut_short(length)


def ensure_second_order(
    module: nn.Module,
    call: Callable[[nn.Module], Tensor],
    switch: Callable[[], None] | None = None,
    params: Params | None = None,
) -> Info:
    """What was done so that `module` can be differentiated twice, in train() and in eval(); empty where nothing was.

    Judges by the worst case: whichever tensors move and whether or not there is dropout.

    Args:
        module: keeps its tensors and its mode.
        call: runs the module on a small input, with padding where the real input has any.
        switch: makes the module use attention with a second derivative, for a transformers model
            `lambda: model.set_attn_implementation("eager")`. Called only if needed.
        params: the tensors to probe with, by their names in `module`; all of its parameters when None. A few save
            memory; at least one must lie before the attention.

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


def _cut_short(value: Tensor) -> bool:
    """Whether the graph of `value` ends in a function that refuses a second derivative.

    `torch.autograd.grad` leaves such ends out, and `torch.func.grad` gives zeros for them, both without an error.
    """
    waiting = [value.grad_fn]
    seen = set()
    while waiting:
        node = waiting.pop()
        if node is None or node in seen:
            continue
        if node.name() == "torch::autograd::Error":
            return True
        seen.add(node)
        waiting.extend(parent for parent, _ in node.next_functions)
    return False


class _Called(nn.Module):
    """`call` of a module, as a module, so that `functional_call` can stand in for its parameters."""

    def __init__(self, module: nn.Module, call: Callable[[nn.Module], Tensor]) -> None:
        super().__init__()
        self.module = module
        self.call = call

    def forward(self) -> Tensor:
        return self.call(self.module)


class _Fused(TorchFunctionMode):
    """Lets attention take the fused kernel wherever some choice of moving tensors would.

    A mask that asks for a gradient (T5's position bias) keeps it away, which cannot be counted on.
    """

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if function is nn.functional.scaled_dot_product_attention:
            kwargs.update(zip(("attn_mask", "dropout_p", "is_causal"), args[3:], strict=False))
            mask = kwargs.get("attn_mask")
            kwargs["attn_mask"] = None if mask is None else mask.detach()
            args = args[:3]
        return function(*args, **kwargs)


def _both_modes(module: nn.Module, call: Callable[[nn.Module], Tensor], params: Params) -> bool:
    called = _Called(module, call)
    named = {f"module.{name}": tensor for name, tensor in params.items()}
    modes = [(part, part.training) for part in module.modules()]

    def supported(training: bool) -> bool:
        module.train(training)
        with _Fused():
            return supports_second_order(lambda leaves: functional_call(called, leaves, ()), named)

    try:
        return supported(True) and supported(False)
    finally:
        for part, training in modes:
            part.training = training


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
