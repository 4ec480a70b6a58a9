"""What every backbone must do. Each check raises AssertionError with a sentence; run them all over a new backbone.

for check in CHECKS:
    check(MLP((4, 8, 8)), torch.randn(6, 4))
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from quickstudy.backbones.base import Backbone
from quickstudy.core.functional import Functional
from quickstudy.core.types import Inputs, Params

TOLERANCE = 1e-5


def check_width(backbone: Backbone, inputs: Inputs) -> None:
    """Features are [example, ..., width]."""
    shape = tuple(_features(backbone, inputs).shape)
    expected = (_rows(inputs), backbone.width)
    assert (shape[0], shape[-1]) == expected, f"features have shape {shape}, expected {expected} at its ends"


def check_finite(backbone: Backbone, inputs: Inputs) -> None:
    """Features are finite, also for a row that is padding altogether."""
    assert torch.isfinite(_features(backbone, inputs)).all(), "features hold NaN or infinity"
    if isinstance(inputs, dict) and "mask" in inputs:
        blank = {**inputs, "mask": torch.zeros_like(inputs["mask"])}
        assert torch.isfinite(_features(backbone, blank)).all(), "features of padding rows hold NaN or infinity"


def check_start(backbone: Backbone, inputs: Inputs) -> None:  # noqa: ARG001 - one signature for all checks
    """The same seed starts from the same values, and these are exactly the parameters of the module."""
    once, again = _start(backbone, 3), _start(backbone, 3)
    names = {name for name, _ in backbone.module().named_parameters()}
    assert once.keys() == names, f"start and module differ in {sorted(once.keys() ^ names)[:3]}"
    assert all(torch.equal(once[name], again[name]) for name in once), "the same seed gave two starts"
    state = torch.get_rng_state()
    _start(backbone, 3)
    backbone.module()
    assert torch.equal(state, torch.get_rng_state()), "start or module drew from the global generator"


def check_skeletons_agree(backbone: Backbone, inputs: Inputs) -> None:
    """Two skeletons compute the same, and tell apart their parameters."""
    first, second = backbone.module(), backbone.module()
    with torch.no_grad():
        assert torch.equal(first(inputs), second(inputs)), "two skeletons give different features"
    ours = {id(parameter) for parameter in first.parameters()}
    assert ours.isdisjoint(id(parameter) for parameter in second.parameters()), "two skeletons share Parameter objects"


def check_rows_apart(backbone: Backbone, inputs: Inputs) -> None:
    """The features of a row do not depend on the other rows."""
    together = _features(backbone, inputs)
    for row in range(_rows(inputs)):
        alone = _features(backbone, pytree.tree_map(lambda leaf, row=row: leaf[row : row + 1], inputs))
        _close(alone[0], together[row], f"row {row} alone and in the batch")


def check_padding(backbone: Backbone, inputs: Inputs) -> None:
    """What stands in masked positions does not matter, nor how many there are."""
    if not isinstance(inputs, dict) or "mask" not in inputs:
        return
    expected = _features(backbone, inputs)
    for junk in (0, 1):
        _close(_features(backbone, widened(inputs, 3, junk)), expected, "features with more padding")


def check_vmap(backbone: Backbone, inputs: Inputs) -> None:
    """`torch.vmap` over stacked parameters and stacked inputs equals the loop, for features and for gradients."""
    function = Functional(backbone.module)
    tasks = [_start(backbone, seed, noise=0.05) for seed in (1, 2)]
    stacked = {name: torch.stack([task[name] for task in tasks]) for name in tasks[0]}
    doubled = pytree.tree_map(lambda leaf: torch.stack([leaf, leaf.flip(0)]), inputs)
    pairs = [pytree.tree_map(lambda leaf, task=task: leaf[task], doubled) for task in (0, 1)]
    looped = torch.stack([function(task, part) for task, part in zip(tasks, pairs, strict=True)])
    _close(torch.vmap(function)(stacked, doubled), looped, "vmap and the loop")
    with torch.no_grad():
        _close(torch.vmap(function)(stacked, doubled), looped, "vmap without gradients and the loop")
    gradient = torch.func.grad(lambda params, part: function(params, part).square()[:, 0].sum())
    mapped = torch.vmap(gradient)(stacked, doubled)
    for index, (task, part) in enumerate(zip(tasks, pairs, strict=True)):
        for name, single in gradient(task, part).items():
            _close(mapped[name][index], single, f"the gradient of {name} by vmap and by the loop")


def check_threads(backbone: Backbone, inputs: Inputs) -> None:
    """Two threads with parameters of their own do not disturb each other."""
    function = Functional(backbone.module)
    tasks = [_start(backbone, seed, noise=0.5) for seed in (1, 2)]
    with torch.no_grad():
        expected = [function(task, inputs) for task in tasks]

    def repeat(index: int) -> bool:
        with torch.no_grad():
            return all(torch.allclose(function(tasks[index], inputs), expected[index], atol=1e-6) for _ in range(20))

    with ThreadPoolExecutor(2) as pool:
        assert all(pool.map(repeat, (0, 1))), "a thread saw the parameters of another"


def check_fingerprint(backbone: Backbone, inputs: Inputs) -> None:  # noqa: ARG001 - one signature for all checks
    """There is a digest just where the start does not depend on the seed."""
    first, second = _start(backbone, 1), _start(backbone, 2)
    fixed = all(torch.equal(first[name], second[name]) for name in first)
    assert fixed == (backbone.fingerprint is not None), "a fingerprint belongs to given weights, and only to these"
    assert backbone.fingerprint == backbone.fingerprint, "the fingerprint changed between two calls"


Check = Callable[[Backbone, Inputs], None]

CHECKS: tuple[Check, ...] = (
    check_width,
    check_finite,
    check_start,
    check_skeletons_agree,
    check_rows_apart,
    check_padding,
    check_vmap,
    check_threads,
    check_fingerprint,
)


def widened(inputs: dict[str, Tensor], tokens: int, junk: int) -> dict[str, Tensor]:
    """`inputs` with `tokens` more masked positions on axis 1, filled with `junk`."""
    wider = {}
    for name, leaf in inputs.items():
        value = 0 if name == "mask" else junk
        extra = leaf.new_full((leaf.shape[0], tokens, *leaf.shape[2:]), value)
        wider[name] = torch.cat([leaf, extra], dim=1)
    return wider


def _rows(inputs: Inputs) -> int:
    return len(pytree.tree_leaves(inputs)[0])


def _features(backbone: Backbone, inputs: Inputs) -> Tensor:
    with torch.no_grad():
        features: Tensor = backbone.module()(inputs)
    return features


def _start(backbone: Backbone, seed: int, noise: float = 0.0) -> Params:
    generator = torch.Generator().manual_seed(seed)
    start = backbone.start(generator)
    if not noise:
        return start
    drawn = {name: torch.randn(tensor.shape, generator=generator) for name, tensor in start.items()}
    return {name: tensor + noise * tensor.abs().mean() * drawn[name] for name, tensor in start.items()}


def _close(found: Tensor, expected: Tensor, what: str) -> None:
    scale = max(1.0, float(expected.abs().max()))
    worst = float((found - expected).abs().max())
    assert worst <= TOLERANCE * scale, f"{what} differ by {worst:.2g}"
