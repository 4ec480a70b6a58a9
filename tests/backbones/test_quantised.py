"""Models in 8 and 4 bits: near the whole ones, adapted by deltas beside them, their own weights untouched."""

import sys

import pytest
import torch
from ciphers import Ciphers
from torch import nn

from quickstudy.backbones import CausalLM, Seq2SeqLM
from quickstudy.backbones import conformance as backbone_checks
from quickstudy.backbones.generation import generate
from quickstudy.backbones.pretrained import digest_of, load_base
from quickstudy.backbones.quantised import EightBits, FourBits, quantise
from quickstudy.core.errors import NotAvailable
from quickstudy.core.frozen_linear import FrozenLinear
from quickstudy.core.functional import Functional
from quickstudy.core.inner import InnerLoop
from quickstudy.core.optimisers import SGD, Adam
from quickstudy.core.stacking import stack_episodes
from quickstudy.core.vectorise import mean_loss_and_gradients
from quickstudy.deltas import AdaLoRA, LoRA, Prefix, Prompt
from quickstudy.deltas import conformance as delta_checks
from quickstudy.learners.losses import weighted_loss
from quickstudy.learners.network import Network
from quickstudy.learners.optimisation.maml import MAML
from quickstudy.learners.writing import write
from quickstudy.tasks.text_tasks import EncodedTextTasks

try:
    import bitsandbytes  # noqa: F401 - asked for whether it is there

    FOUR = ["4bit"]
except ImportError:
    FOUR = []
BITS = [
    "8bit",
    pytest.param("4bit", marks=pytest.mark.skipif(not FOUR, reason="the optional package bitsandbytes is missing")),
]
LAYERS = {"8bit": EightBits, "4bit": FourBits}
PROMPTS, COMPLETIONS = ["abc", "defghijk", "q"], ["xyz", "pq", "rstuvw"]
TARGETS = {"llama": ("q_proj", "v_proj", "down_proj"), "gpt2": ("c_attn", "mlp.c_proj")}
OFF = {"8bit": 0.02, "4bit": 0.2}
"""How far a matrix may be from the whole one, as a share of its spread."""


def drawn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def kept(model):
    return digest_of(model.state_dict())


@pytest.mark.parametrize("bits", BITS)
def test_a_matrix_is_near_the_whole_one_and_its_derivatives_are_its_own(bits):
    weight, bias = drawn(24, 64), drawn(24, seed=1)
    layer = LAYERS[bits](weight, bias)
    assert not list(layer.parameters())
    matrix = layer.matrix(torch.float32)
    error = float((matrix - weight).square().mean().sqrt())
    assert 0 < error < OFF[bits]
    x = drawn(5, 3, 64, seed=2).requires_grad_()
    expected = nn.functional.linear(x, matrix, bias)
    torch.testing.assert_close(layer(x), expected)
    torch.testing.assert_close(torch.vmap(layer)(x), expected)

    def twice(function):
        inner = torch.func.grad(lambda x: function(x).pow(3).sum())
        return torch.func.grad(lambda x: inner(x).square().sum())(x.detach())

    torch.testing.assert_close(twice(layer), twice(lambda x: nn.functional.linear(x, matrix, bias)), rtol=1e-4, atol=1)
    (first,) = torch.autograd.grad(layer(x).square().sum(), x, create_graph=True)
    (second,) = torch.autograd.grad(first.square().sum(), x)
    gram = matrix.T @ matrix
    torch.testing.assert_close(second, 8 * (x @ gram + bias @ matrix) @ gram, rtol=1e-3, atol=0.1)


def test_eight_bits_are_exact_where_they_can_be_and_take_rows_of_zeros():
    whole = torch.tensor([[127.0, -3, 0], [0, 0, 0], [0.5, 63.5, -20]])
    torch.testing.assert_close(EightBits(whole, None).matrix(torch.float32), whole)


@pytest.mark.parametrize("bits", BITS)
def test_nothing_whole_is_kept_for_the_backward(bits):
    layer, x = LAYERS[bits](drawn(64, 64), None), drawn(2, 64).requires_grad_()
    sizes = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: sizes.append(t.numel()) or t, lambda t: t):
        layer(x).sum().backward()
    assert all(size <= x.numel() for size in sizes)


@pytest.mark.parametrize("kind", TARGETS)
@pytest.mark.parametrize("bits", BITS)
def test_outputs_are_near_those_of_the_whole_model_and_the_fingerprint_is_the_same(bits, kind, language_model):
    whole, small = CausalLM(language_model(kind)), CausalLM(language_model(kind), quantised=bits)
    inputs = whole.batch(PROMPTS, COMPLETIONS).inputs
    with torch.no_grad():
        expected, found = (Functional(each.module)({}, inputs).flatten() for each in (whole, small))
    near = float(torch.corrcoef(torch.stack([expected, found]))[0, 1])
    assert (0.999 if bits == "8bit" else 0.9) < near < 1
    assert whole.fingerprint == small.fingerprint
    layers = [part for part in small.module().modules() if isinstance(part, FrozenLinear)]
    assert len(layers) == (14 if kind == "llama" else 8)
    assert {type(layer) for layer in layers} == {LAYERS[bits]}
    assert not any("proj" in name or "c_attn.w" in name for name in small.start(torch.Generator()))
    numbers = sum(layer.packed.numel() * layer.packed.element_size() for layer in layers)
    assert numbers == sum(layer.in_features * layer.out_features for layer in layers) // (1 if bits == "8bit" else 2)


@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("check", backbone_checks.CHECKS, ids=lambda check: check.__name__)
def test_backbone_conformance(check, bits, language_model):
    backbone = CausalLM(language_model("llama"), quantised=bits)
    check(backbone, backbone.batch(PROMPTS, COMPLETIONS).inputs)


@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("delta", [LoRA(3, 6, TARGETS["llama"]), AdaLoRA(3, 6, TARGETS["llama"]), Prompt(3), Prefix(3)])
@pytest.mark.parametrize("check", delta_checks.CHECKS, ids=lambda check: check.__name__)
def test_delta_conformance(check, delta, bits, language_model):
    backbone = CausalLM(language_model("llama"), quantised=bits)
    check(delta, backbone.module, backbone.batch(PROMPTS, COMPLETIONS).inputs)


@pytest.mark.parametrize("kind", TARGETS)
@pytest.mark.parametrize("bits", BITS)
def test_adapting_learns_writes_and_leaves_the_model_as_it_was(bits, kind, language_model):
    backbone = CausalLM(language_model(kind), max_tokens=24, quantised=bits)
    model = load_base(language_model(kind), kind="causal", quantised=bits).model
    before = kept(model)
    support = EncodedTextTasks(Ciphers(), backbone.batch).sample(torch.Generator().manual_seed(1)).support
    losses = []
    for base in (CausalLM(language_model(kind), max_tokens=24), backbone, backbone):
        learner = MAML(Network(base, LoRA(4, 8, TARGETS[kind])), InnerLoop(30, Adam(3e-2), order="first"))
        params = learner.init(torch.Generator().manual_seed(0))
        with torch.no_grad():
            adapter = learner.adapt(params, support)
            losses.append(float(weighted_loss(learner.predict(params, adapter, support.inputs).mean, support)))
            start = float(weighted_loss(learner.network(params, support.inputs), support))
    assert losses[1] == losses[2] < 0.8 * start
    assert losses[1] == pytest.approx(losses[0], abs=0.15)
    written = write(learner, params, adapter, ["abc>"], most=6)
    assert written != generate(backbone, Functional(backbone.module), {}, backbone.begin(["abc>"]), 6)
    assert kept(model) == before
    assert all(tensor.grad is None for tensor in model.parameters())


@pytest.mark.parametrize("bits", BITS)
def test_second_order_of_stacked_tasks_is_that_of_each_alone(bits, language_model):
    backbone = CausalLM(language_model("llama"), quantised=bits)
    learner = MAML(Network(backbone, LoRA(2, 4, ("q_proj", "v_proj"))), InnerLoop(2, SGD(0.3)))
    draws = torch.Generator().manual_seed(0)
    params = {
        name: tensor + 0.1 * torch.randn(tensor.shape, generator=draws) for name, tensor in learner.init(draws).items()
    }
    episodes = [EncodedTextTasks(Ciphers(), backbone.batch).sample(draws) for _ in range(2)]
    found = {
        mode: mean_loss_and_gradients(learner.loss, params, stack_episodes(episodes), mode) for mode in ("vmap", "loop")
    }
    torch.testing.assert_close(found["vmap"][0], found["loop"][0], atol=1e-5, rtol=1e-4)
    for name, gradient in found["vmap"][1].items():
        torch.testing.assert_close(gradient, found["loop"][1][name], atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("kind", ["t5", "bart"])
@pytest.mark.parametrize("bits", BITS)
def test_encoder_decoders_too(bits, kind, encoder_decoder):
    whole, small = Seq2SeqLM(encoder_decoder(kind)), Seq2SeqLM(encoder_decoder(kind), quantised=bits)
    inputs = whole.batch(PROMPTS, COMPLETIONS).inputs
    delta = LoRA(2, 4, ("q", "wo") if kind == "t5" else ("q_proj", "fc1"))
    with torch.no_grad():
        expected = Functional(whole.module)({}, inputs)
        found = Functional(lambda: delta.attach(small.module()))({}, inputs)
    near = torch.corrcoef(torch.stack([expected.flatten(), found.flatten()]))[0, 1]
    assert near > (0.99 if bits == "8bit" else 0.8)


@pytest.mark.parametrize("bits", BITS)
def test_a_base_in_bfloat16(bits, language_model):
    backbone = CausalLM(language_model("llama"), dtype="bfloat16", quantised=bits)
    inputs = backbone.batch(PROMPTS, COMPLETIONS).inputs
    with torch.no_grad():
        found = Functional(backbone.module)({}, inputs)
        near = Functional(CausalLM(language_model("llama"), quantised=bits).module)({}, inputs)
    assert found.dtype == torch.bfloat16
    assert torch.corrcoef(torch.stack([found.float().flatten(), near.flatten()]))[0, 1] > 0.99


def test_what_cannot_be_had_is_said(language_model, monkeypatch):
    with pytest.raises(ValueError, match="quantised is '2bit'; expected one of '', 8bit, 4bit"):
        CausalLM(language_model("llama"), quantised="2bit").module()
    monkeypatch.setitem(sys.modules, "bitsandbytes.functional", None)
    with pytest.raises(NotAvailable, match=r"pip install quickstudy\[quantised\]"):
        FourBits(drawn(4, 64), None)
    done = load_base(language_model("llama"), kind="causal").model
    monkeypatch.setattr(done, "is_quantized", True, raising=False)
    with pytest.raises(NotAvailable, match="quantised model already"):
        quantise(done, "8bit")
