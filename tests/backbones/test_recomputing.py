"""Layers that compute their activations again: the same gradients as those that keep them."""

import pytest
import torch
from language_models import CONFIGS
from torch.func import grad
from transformers import DynamicCache

from quickstudy.backbones import CausalLM
from quickstudy.backbones.recomputing import copied_caches
from quickstudy.core.errors import NotAvailable
from quickstudy.core.functional import Functional
from quickstudy.deltas import LoRA, Prefix, Prompt
from quickstudy.learners.losses import weighted_loss

PROMPTS, COMPLETIONS = ["abc", "defghijklmno", "q"], ["xyz", "pq", "rstuvw"]


def task(folder, delta_of, recompute):
    """A loss of parameters, and parameters that are not the module's own."""
    backbone = CausalLM(folder, recompute=recompute)
    delta = delta_of(backbone)
    body = Functional(lambda: delta.attach(backbone.module()))
    batch = backbone.batch(PROMPTS, COMPLETIONS)
    start = delta.init(body.module(), backbone.start(torch.Generator()), torch.Generator().manual_seed(0))
    params = {name: (tensor + 0.1).requires_grad_() for name, tensor in start.items()}
    return lambda params: weighted_loss(body(params, batch.inputs), batch), params, body


def lora(backbone):
    return LoRA(2, 4, backbone.linears)


@pytest.mark.parametrize("kind", CONFIGS)
def test_gradients_of_both_orders_are_those_of_kept_activations(kind, language_model):
    found = []
    for recompute in (False, True):
        loss, params, _ = task(language_model(kind), lora, recompute)
        leaves = list(params.values())
        first = torch.autograd.grad(loss(params), leaves, create_graph=True)
        found.append([first, torch.autograd.grad(sum(each.square().sum() for each in first), leaves)])
    torch.testing.assert_close(found[0], found[1], atol=1e-6, rtol=1e-5)
    assert all(max(float(each.detach().abs().max()) for each in order) > 1e-3 for order in found[0])


@pytest.mark.parametrize("front", [Prompt(2), Prefix(2)], ids=["prompt", "prefix"])
def test_what_stands_in_front_has_the_same_gradients(front, language_model):
    found = []
    for recompute in (False, True):
        loss, params, _ = task(language_model("llama"), lambda _: front, recompute)
        found.append(torch.autograd.grad(loss(params), list(params.values())))
    torch.testing.assert_close(found[0], found[1], atol=1e-6, rtol=1e-5)
    assert all(each.any() for each in found[0])


@pytest.mark.parametrize(("recompute", "runs"), [(False, 1), (True, 2)])
def test_a_layer_runs_again_in_the_backward_and_only_there(recompute, runs, language_model):
    loss, params, body = task(language_model("llama"), lora, recompute)
    counted = []
    body.module().get_submodule("model.model.layers.0.mlp").register_forward_pre_hook(lambda *_: counted.append(1))
    torch.autograd.grad(loss(params), list(params.values()))
    assert len(counted) == runs
    counted.clear()
    with torch.no_grad():
        loss(params)
    assert len(counted) == 1


def test_a_copied_cache_takes_no_more_from_the_one_it_was_made_of():
    cache, more = DynamicCache(), torch.ones(1, 1, 3, 2)
    cache.update(more, more, 0)
    twin = copied_caches({"past_key_values": cache, "mask": more})
    twin["past_key_values"].update(more, more, 0)
    assert (cache.get_seq_length(), twin["past_key_values"].get_seq_length()) == (3, 6)
    assert twin["mask"] is more


def test_transforms_of_functions_are_refused(language_model):
    loss, params, _ = task(language_model("llama"), lora, True)
    with pytest.raises(NotAvailable, match='run the tasks with mode="loop"'):
        grad(loss)({name: tensor.detach() for name, tensor in params.items()})
