"""AdaLoRA: three factors beside a layer, and a budget of ranks that goes to the layers that need them."""

import warnings
from itertools import pairwise

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from quickstudy.backbones import CausalLM
from quickstudy.backbones.generation import generate
from quickstudy.core.functional import Functional
from quickstudy.core.inner import InnerLoop, adapt_parameters
from quickstudy.core.optimisers import SGD, Adam
from quickstudy.deltas import AdaLoRA, LoRA, RankBudget, as_lora, gather_adapters
from quickstudy.deltas import conformance as checks
from quickstudy.deltas.adalora import ranks, without_pruned
from quickstudy.deltas.rank_budget import best, layers_of, scores, weighed

PROMPTS, COMPLETIONS = ["abc", "defghijk", "q"], ["xyz", "pq", "rstuvw"]
TARGETS = {"llama": ("q_proj", "v_proj", "down_proj"), "gpt2": ("c_attn", "mlp.c_proj")}


def attached(backbone, delta):
    return Functional(lambda: delta.attach(backbone.module()))


def drawn(body, delta, seed):
    generator = torch.Generator().manual_seed(seed)
    start = delta.init(body.module(), {}, generator)
    return {name: tensor + 0.3 * torch.randn(tensor.shape, generator=generator) for name, tensor in start.items()}


class Two(nn.Module):
    """Two layers side by side."""

    def __init__(self):
        super().__init__()
        self.one = nn.Linear(10, 10, bias=False).requires_grad_(False)
        self.two = nn.Linear(10, 10, bias=False).requires_grad_(False)

    def forward(self, x):
        return torch.cat([self.one(x), self.two(x)], -1)


def two(seed=0):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return Two()


DELTA = AdaLoRA(6, 6, ("one", "two"))
BUDGET = RankBudget(2.5)
LOOP = InnerLoop(400, Adam(5e-3), order="first")


def allotted(loss, start, budget=BUDGET, loop=LOOP):
    return adapt_parameters(loss, start, AdaLoRA(budget=budget).steered(loop))


def orthogonality(params):
    total = torch.zeros(())
    for layer in layers_of(params):
        p, q = params[f"{layer}.lora_P"], params[f"{layer}.lora_Q"]
        one = torch.eye(len(q))
        total = total + (p.T @ p - one).square().sum() + (q @ q.T - one).square().sum()
    return total


def regression(seed=0, needed=(4, 1)):
    """The loss and the start of a task whose layers differ from the base's by matrices of these ranks."""
    draws = torch.Generator().manual_seed(seed)

    def shift(rank):
        left, right = (torch.linalg.qr(torch.randn(10, 10, generator=draws)).Q[:, :rank] for _ in range(2))
        return 2 * left @ right.T

    module, x = two(), torch.randn(60, 10, generator=draws)
    layers = zip((module.one, module.two), needed, strict=True)
    y = torch.cat([x @ (part.weight + shift(rank)).T for part, rank in layers], -1)
    body = Functional(lambda: DELTA.attach(two()))
    start = DELTA.init(body.module(), {}, draws)
    return (lambda params, pair: (body(params, pair[0]) - pair[1]).square().mean()), start, (x, y)


@pytest.mark.parametrize("check", checks.CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("delta", [AdaLoRA(3), AdaLoRA(2, 1, ("dense",), (0, 2))], ids=str)
def test_conformance_on_an_encoder(check, delta, factory, inputs):
    check(delta, factory, inputs)


@pytest.mark.parametrize("kind", TARGETS)
@pytest.mark.parametrize("check", checks.CHECKS, ids=lambda check: check.__name__)
def test_conformance_on_a_language_model(check, kind, language_model):
    backbone = CausalLM(language_model(kind))
    check(AdaLoRA(3, targets=TARGETS[kind]), backbone.module, backbone.batch(PROMPTS, COMPLETIONS).inputs)


@pytest.mark.parametrize("seed", [0, 1])
def test_the_budget_goes_to_the_layer_that_needs_it(seed):
    loss, start, pair = regression(seed)
    found = allotted(lambda params: loss(params, pair), start)
    assert ranks(found) == {"one": 4, "two": 1}
    assert float(loss(found, pair)) < 0.02 * float(loss(start, pair))
    other, start, pair = regression(seed, (0, 5))
    assert ranks(allotted(lambda params: other(params, pair), start)) == {"one": 0, "two": 5}


def test_ranks_of_a_language_model_move_and_their_sum_is_the_budget(language_model):
    backbone, delta = CausalLM(language_model("llama")), AdaLoRA(6, 12, TARGETS["llama"])
    body, batch = attached(backbone, delta), backbone.batch(PROMPTS, COMPLETIONS)
    asked = batch.inputs["asked"] > 0

    def loss(params):
        return cross_entropy(body(params, batch.inputs)[asked], batch.targets[asked])

    start = delta.init(body.module(), {}, torch.Generator().manual_seed(0))
    with torch.no_grad():
        found = allotted(loss, start, RankBudget(2.5, every=2), InnerLoop(60, Adam(3e-2)))
        assert loss(found) < 0.3 * loss(start)
    kept = ranks(found)
    assert len(kept) == 6
    assert sum(kept.values()) == 15
    assert len(set(kept.values())) > 1
    assert all(tensor.grad_fn is None and not tensor.requires_grad for tensor in found.values())


def test_the_budget_falls_from_all_ranks_to_the_last():
    budget = RankBudget(2.5, warmup=10, settling=30)
    at = [budget.at(step, 100, 4, 8) for step in range(1, 101)]
    assert at[:10] == [32] * 10
    assert at[69:] == [10] * 31
    assert all(before >= after for before, after in pairwise(at))
    assert at[39] == 10 + int(22 * 0.5**3)
    assert RankBudget(50).at(100, 100, 4, 8) == 32
    assert RankBudget().at(100, 100, 4, 12) == 4 * 8


def test_pruned_ranks_stay_pruned_while_settling_and_may_come_back_before():
    loss, start, pair = regression()
    loop = InnerLoop(60, Adam(2e-2))
    last, masks = BUDGET.span(60)[1], []
    steps = DELTA.steered(loop).optimiser
    params, state = start, steps.start(start)
    for number in range(1, 61):
        params, state = steps.step(params, torch.func.grad(lambda moving: loss(moving, pair))(params), state)
        masks.append(torch.cat([state[f"kept.{name}"] for name in sorted(start) if name.endswith("lambda")]))
        if number >= last:
            values = torch.cat([params[name] for name in sorted(start) if name.endswith("lambda")])
            assert torch.equal(values != 0, masks[-1])
    assert all(torch.equal(masks[-1], mask) for mask in masks[last - 1 :])
    assert any((after & ~before).any() for before, after in pairwise(masks))


def test_many_tasks_by_vmap_are_each_alone():
    tasks = [regression(seed) for seed in range(3)]
    loss = tasks[0][0]
    stacked = {name: torch.stack([start[name] for _, start, _ in tasks]) for name in tasks[0][1]}
    pairs = tuple(torch.stack(leaves) for leaves in zip(*(pair for _, _, pair in tasks), strict=True))
    loop = InnerLoop(30, SGD(0.05))
    together = torch.vmap(lambda start, x, y: allotted(lambda p: loss(p, (x, y)), start, loop=loop))(stacked, *pairs)
    for number, (_, start, pair) in enumerate(tasks):
        alone = allotted(lambda params, pair=pair: loss(params, pair), start, loop=loop)
        for name, tensor in alone.items():
            torch.testing.assert_close(together[name][number], tensor, atol=1e-5, rtol=1e-4)


def test_p_and_q_grow_orthogonal():
    loss, start, pair = regression()
    ends = [
        allotted(
            lambda params: loss(params, pair),
            start,
            RankBudget(2.5, orthogonality=weight),
            InnerLoop(200, Adam(2e-2), order="first"),
        )
        for weight in (0.0, 1.0)
    ]
    assert orthogonality(ends[1]) < 0.05 * orthogonality(start) < orthogonality(ends[0])


def test_one_step_of_descent_is_that_of_the_loss_with_the_term_for_orthogonality():
    loss, start, pair = regression()
    draws = torch.Generator().manual_seed(3)
    start = {name: torch.randn(tensor.shape, generator=draws) for name, tensor in start.items()}
    found = allotted(lambda params: 0 * loss(params, pair), start, RankBudget(orthogonality=0.7), InnerLoop(5, SGD(0)))
    assert all(torch.equal(found[n], t) for n, t in start.items() if not n.endswith("lambda"))
    steps = AdaLoRA(budget=RankBudget(orthogonality=0.7)).steered(InnerLoop(5, SGD(1.0))).optimiser
    grads = torch.func.grad(lambda params: loss(params, pair))(start)
    moved, _ = steps.step(start, grads, steps.start(start))
    whole = torch.func.grad(lambda params: loss(params, pair) + 0.7 * orthogonality(params))(start)
    for name, tensor in moved.items():
        torch.testing.assert_close(start[name] - tensor, whole[name], atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("checkpoint", [False, True])
def test_the_outer_gradient_is_that_of_differences_with_the_choice_held_still(checkpoint):
    _, start, pair = regression()
    draws = torch.Generator().manual_seed(1)
    start = {
        name: (tensor + 0.3 * torch.randn(tensor.shape, generator=draws)).double() for name, tensor in start.items()
    }
    pair = tuple(tensor.double() for tensor in pair)
    body = Functional(lambda: DELTA.attach(two().double()))
    way = {name: torch.randn(tensor.shape, generator=draws).double() for name, tensor in start.items()}

    def task(params):
        return (body(params, pair[0]) - pair[1]).square().mean()

    def outer(params, order):
        loop = InnerLoop(5, SGD(0.01), order=order, checkpoint=checkpoint)
        return task(allotted(task, params, RankBudget(2.5), loop))

    slopes = {}
    for order in ("second", "first"):
        leaves = {name: tensor.clone().requires_grad_() for name, tensor in start.items()}
        found = torch.autograd.grad(outer(leaves, order), list(leaves.values()))
        slopes[order] = sum(float((g * way[name]).sum()) for name, g in zip(leaves, found, strict=True))
    ends = [float(outer({n: start[n] + s * way[n] for n in way}, "second").detach()) for s in (1e-6, -1e-6)]
    assert slopes["second"] == pytest.approx((ends[0] - ends[1]) / 2e-6, rel=1e-4)
    assert slopes["first"] != pytest.approx(slopes["second"], rel=1e-2)


def test_what_is_left_is_an_ordinary_lora(language_model):
    backbone, delta = CausalLM(language_model("llama")), AdaLoRA(4, 6, ("q_proj", "v_proj"))
    body, inputs = attached(backbone, delta), backbone.batch(PROMPTS, COMPLETIONS).inputs
    params = drawn(body, delta, 0)
    for number, name in enumerate(sorted(name for name in params if name.endswith("lambda"))):
        params[name][: number + 1] = 0
    small = without_pruned(params)
    assert sorted(ranks(small).values()) == [1, 2, 3]
    assert len(small) == 9
    torch.testing.assert_close(body(small, inputs), body(params, inputs))
    lora, matrices = as_lora(delta, params)
    assert lora.rank == 3
    torch.testing.assert_close(attached(backbone, lora)(matrices, inputs), body(params, inputs), atol=1e-4, rtol=1e-4)
    start = lora.init(lora.attach(backbone.module()), {}, torch.Generator())
    assert {n: t.shape for n, t in start.items()} == {n: t.shape for n, t in matrices.items()}
    assert not torch.allclose(body({}, inputs), body(params, inputs), atol=1e-2)


@pytest.mark.parametrize("kind", TARGETS)
def test_rows_of_different_adapters_are_as_each_alone_also_when_they_write(kind, language_model):
    backbone, delta = CausalLM(language_model(kind), max_tokens=40), AdaLoRA(4, 12, TARGETS[kind])
    body, index = attached(backbone, delta), torch.tensor([2, 0, 1, 1, 0, 2])
    adapters = [drawn(body, delta, seed) for seed in range(3)]
    mixed = gather_adapters({name: torch.stack([each[name] for each in adapters]) for name in adapters[0]}, index)
    prompts = 2 * PROMPTS
    together = generate(backbone, body, mixed, backbone.begin(prompts), most=10)
    for row, number in enumerate(index.tolist()):
        assert generate(backbone, body, adapters[number], backbone.begin([prompts[row]]), most=10) == [together[row]]
    assert together != generate(backbone, body, {}, backbone.begin(prompts), most=10)
    with pytest.raises(ValueError, match="6 rows were given, but the batch has 3"):
        generate(backbone, body, mixed, backbone.begin(PROMPTS))


def test_scores_and_choice_are_those_of_peft(language_model):
    """The same tensors with the same gradients, eight times: PEFT's allocator prunes the same ranks."""
    peft = pytest.importorskip("peft", reason="the optional package peft is not installed")
    from transformers import AutoModelForCausalLM

    base = AutoModelForCausalLM.from_pretrained(language_model("llama"))
    config = peft.AdaLoraConfig(
        init_r=4, target_r=2, tinit=1, tfinal=1, total_step=10, target_modules=["q_proj", "v_proj"]
    )
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*is_gradient_checkpointing.*")
        model = peft.get_peft_model(base, config)
    names = {"lora_A": "lora_Q", "lora_B": "lora_P", "lora_E": "lora_lambda"}
    theirs = {n: p for n, p in model.named_parameters() if "lora_" in n}
    draws, budget = torch.Generator().manual_seed(0), RankBudget()

    def ours(tensors):
        found = {}
        for name, tensor in tensors.items():
            layer, _, kind = name.removesuffix(".default").rpartition(".")
            found[f"{layer}.{names[kind]}"] = tensor.detach()[:, 0] if kind == "lora_E" else tensor.detach()
        return found

    zeros = {name: torch.zeros_like(tensor) for name, tensor in ours(theirs).items()}
    importance, uncertainty = zeros, zeros
    for _ in range(8):
        for parameter in theirs.values():
            parameter.data = torch.randn(parameter.shape, generator=draws)
            parameter.grad = torch.randn(parameter.shape, generator=draws)
        model.base_model.rankallocator.update_ipt(model.base_model.model)
        grads = ours({name: parameter.grad for name, parameter in theirs.items()})
        importance, uncertainty = weighed(ours(theirs), grads, importance, uncertainty, budget)
    for number in (3, 7, 11):
        kept = best(scores(importance, uncertainty), number)
        pattern = model.base_model.rankallocator.mask_to_budget(model.base_model.model, number)
        assert sum(int(mask.sum()) for mask in kept.values()) == number
        assert len(pattern) == len(kept) == 4
        for name, mask in pattern.items():
            layer = name.removesuffix(".lora_E.default")
            assert kept[f"base_model.model.{layer}.lora_lambda"].tolist() == mask


def test_bad_input_has_a_clear_error(factory):
    for steps, wrong in ((1, {}), (10, {"warmup": 0}), (10, {"warmup": 5, "settling": 5}), (10, {"settling": -1})):
        with pytest.raises(ValueError, match="of settling leave none to prune ranks in"):
            RankBudget(**wrong).span(steps)
    for wrong in ({"every": 0}, {"mean_rank": 0}, {"orthogonality": -1}):
        with pytest.raises(ValueError, match="every is"):
            RankBudget(**wrong)
    with pytest.raises(ValueError, match="beta1 is 1"):
        RankBudget(beta1=1)
    with pytest.raises(ValueError, match="expected P, lambda and Q of each layer"):
        allotted(lambda params: params["a.lora_P"].sum(), {"a.lora_P": torch.zeros(2, 2)})
    with pytest.raises(ValueError, match="rank is 0"):
        AdaLoRA(0).attach(factory())
    module = LoRA(2).attach(factory())
    with pytest.raises(ValueError, match="match no linear layer"):
        AdaLoRA(2).attach(module)
    AdaLoRA(2, targets=("dense",)).attach(module)
    assert sum(name.endswith("lora_A") for name in module.state_dict()) == 6
    delta = AdaLoRA(2)
    with pytest.raises(ValueError, match="every rank is pruned"):
        as_lora(delta, delta.init(delta.attach(factory()), {}, torch.Generator()))
