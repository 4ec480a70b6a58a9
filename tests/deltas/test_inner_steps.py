"""Prompts, prefixes and AdaLoRA in an inner loop: steps lower the loss, and an outer loss sees through them."""

import pytest
import torch
from torch.nn.functional import cross_entropy

from quickstudy.backbones import CausalLM
from quickstudy.core.functional import Functional
from quickstudy.core.inner import InnerLoop, adapt_parameters
from quickstudy.core.optimisers import SGD, Adam
from quickstudy.deltas import AdaLoRA, Prefix, Prompt

DELTAS = {
    "prompt": (Prompt(3), 1.0),
    "prefix": (Prefix(3), 1.0),
    "prefix through a network": (Prefix(3, "random", through=8), 0.2),
    "AdaLoRA": (AdaLoRA(3, targets=("q_proj", "v_proj", "down_proj")), 0.05),
}
"""The delta, and the rate of its steps."""


@pytest.fixture(params=DELTAS)
def losses(request, language_model):
    """The loss of examples of a task after some steps on others of it, that on these, and where the steps begin."""
    delta, rate = DELTAS[request.param]
    backbone = CausalLM(language_model("llama"))
    body = Functional(lambda: delta.attach(backbone.module()))
    draws = torch.Generator().manual_seed(0)
    start = delta.init(body.module(), backbone.start(draws), draws)
    start = {name: tensor + 0.1 * torch.randn(tensor.shape, generator=draws) for name, tensor in start.items()}
    support, query = backbone.batch(["abc", "ab"], ["xy", "xyz"]), backbone.batch(["bcd", "cd"], ["yz", "yzx"])

    def loss(params, batch):
        counted = (batch.inputs["asked"] > 0).flatten()
        found = cross_entropy(body(params, batch.inputs).flatten(0, 1), batch.targets.flatten(), reduction="none")
        return (found * counted).sum() / counted.sum()

    def after(params, steps, order="second"):
        inner = InnerLoop(steps, SGD(rate), order=order)
        return loss(adapt_parameters(lambda moved: loss(moved, support), params, inner), query)

    return after, (lambda params: loss(params, support)), start


def test_steps_lower_the_loss(losses):
    _, own, start = losses
    with torch.no_grad():
        moved = adapt_parameters(own, start, InnerLoop(50, Adam(0.05)))
        assert own(moved) < 0.7 * own(start)


def test_the_outer_gradient_is_that_of_differences_and_another_than_of_first_order(losses):
    after, _, start = losses
    draws = torch.Generator().manual_seed(1)
    way = {name: torch.randn(tensor.shape, generator=draws) for name, tensor in start.items()}
    found = torch.func.grad(lambda params: after(params, 2))(start)
    first = torch.func.grad(lambda params: after(params, 2, "first"))(start)
    slope, crude = (float(sum((g[name] * way[name]).sum() for name in way)) for g in (found, first))
    step = 2e-3
    with torch.no_grad():
        ends = [after({name: start[name] + s * way[name] for name in way}, 2) for s in (step, -step)]
    assert slope == pytest.approx(float(ends[0] - ends[1]) / (2 * step), rel=0.03)
    assert crude != pytest.approx(slope, rel=0.03)


def test_outer_gradients_of_many_tasks_by_vmap_are_each_alone(losses):
    after, _, start = losses
    gradient = torch.func.grad(lambda params: after(params, 2))
    starts = [{name: factor * tensor for name, tensor in start.items()} for factor in (1.0, 0.9)]
    together = torch.vmap(gradient)({name: torch.stack([each[name] for each in starts]) for name in start})
    for number, each in enumerate(starts):
        for name, tensor in gradient(each).items():
            torch.testing.assert_close(together[name][number], tensor, atol=1e-4, rtol=1e-2)
