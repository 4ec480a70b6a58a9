"""What every delta must do. Each check raises AssertionError with a sentence; run them all over a new delta.

A check takes the delta, a factory of fresh modules with the same weights, and one batch of inputs.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import torch
from torch import Tensor, nn

from quickstudy.core.functional import Functional
from quickstudy.core.types import Inputs, Params
from quickstudy.deltas.base import Delta

Factory = Callable[[], nn.Module]
Check = Callable[[Delta, Factory, Inputs], None]


def check_attach_keeps_outputs(delta: Delta, factory: Factory, inputs: Inputs) -> None:
    """With what `init` returned, the attached module computes what the module did, if the delta says that it does."""
    with torch.no_grad():
        before = factory()(inputs)
        after = _attached(delta, factory)(_init(delta, factory, 0), inputs)
    worst = float((after - before).abs().max())
    if delta.keeps_outputs:
        assert worst <= 1e-6, f"attaching changed the outputs by {worst:.2g}"
    else:
        assert 1e-6 < worst < float("inf"), f"attaching changed the outputs by {worst:.2g}, though keeps_outputs=False"


def check_init(delta: Delta, factory: Factory, inputs: Inputs) -> None:  # noqa: ARG001 - one signature for all checks
    """The same seed gives the same values; they fit the module; nothing comes from the global generator."""
    state = torch.get_rng_state()
    once, again = _init(delta, factory, 5), _init(delta, factory, 5)
    assert torch.equal(state, torch.get_rng_state()), "init drew from the global generator"
    shapes = {name: parameter.shape for name, parameter in delta.attach(factory()).named_parameters()}
    assert list(once) == list(again), "the same seed gave other names"
    for name, tensor in once.items():
        assert torch.equal(tensor, again[name]), f"the same seed gave two values of {name}"
        assert shapes.get(name) == tensor.shape, f"{name} {tuple(tensor.shape)} fits no parameter of the module"


def check_init_is_apart(delta: Delta, factory: Factory, inputs: Inputs) -> None:
    """Changing what `init` returned in place does not change the module."""
    module = factory()
    start = {name: parameter.detach() for name, parameter in module.named_parameters()}
    attached = delta.attach(module)
    with torch.no_grad():
        before = attached(inputs)
        for tensor in delta.init(attached, start, torch.Generator().manual_seed(0)).values():
            tensor.add_(1)
        after = attached(inputs)
    assert torch.equal(before, after), "init handed out the module's own memory"


def check_gradients(delta: Delta, factory: Factory, inputs: Inputs) -> None:
    """After one step every tensor has a gradient that is not zero, and the base has none."""
    function = _attached(delta, factory)
    params = _init(delta, factory, 0)
    if not params:
        return
    for _ in range(2):
        gradient = torch.func.grad(lambda tensors: function(tensors, inputs).square()[:, 0].sum())(params)
        params = {name: tensor - 0.1 * gradient[name] for name, tensor in params.items()}
    still = [name for name, tensor in gradient.items() if not tensor.any()]
    assert not still, f"no gradient reaches {still[:3]}"
    kept = [name for name, parameter in function.module().named_parameters() if parameter.grad is not None]
    assert not kept, f"a gradient was left behind on {kept[:3]}"


def check_vmap(delta: Delta, factory: Factory, inputs: Inputs) -> None:
    """`torch.vmap` over stacked deltas equals the loop."""
    function = _attached(delta, factory)
    tasks = [_moved(_init(delta, factory, seed), seed) for seed in (1, 2)]
    if not tasks[0]:
        return
    stacked = {name: torch.stack([task[name] for task in tasks]) for name in tasks[0]}
    looped = torch.stack([function(task, inputs) for task in tasks])
    worst = float((torch.vmap(function, in_dims=(0, None))(stacked, inputs) - looped).detach().abs().max())
    assert worst <= 1e-5, f"vmap and the loop differ by {worst:.2g}"
    assert not torch.allclose(looped[0], looped[1], atol=1e-4), "two deltas give the same outputs"


def check_threads(delta: Delta, factory: Factory, inputs: Inputs) -> None:
    """Two threads with deltas of their own do not disturb each other."""
    function = _attached(delta, factory)
    tasks = [_moved(_init(delta, factory, seed), seed) for seed in (1, 2)]
    with torch.no_grad():
        expected = [function(task, inputs) for task in tasks]

    def repeat(index: int) -> bool:
        with torch.no_grad():
            return all(torch.allclose(function(tasks[index], inputs), expected[index], atol=1e-6) for _ in range(20))

    with ThreadPoolExecutor(2) as pool:
        assert all(pool.map(repeat, (0, 1))), "a thread saw the delta of another"


CHECKS: tuple[Check, ...] = (
    check_attach_keeps_outputs,
    check_init,
    check_init_is_apart,
    check_gradients,
    check_vmap,
    check_threads,
)


def _attached(delta: Delta, factory: Factory) -> Functional:
    return Functional(lambda: delta.attach(factory()))


def _init(delta: Delta, factory: Factory, seed: int) -> Params:
    start = {name: parameter.detach() for name, parameter in factory().named_parameters()}
    return delta.init(delta.attach(factory()), start, torch.Generator().manual_seed(seed))


def _moved(params: Params, seed: int) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {name: tensor + 0.2 * torch.randn(tensor.shape, generator=generator) for name, tensor in params.items()}
