"""A model of which only shapes are there beside the model itself."""

import shutil
from pathlib import Path

import pytest
import torch
from encoder_decoders import CONFIGS as ENCODER_DECODERS
from language_models import CONFIGS

from quickstudy.backbones import CausalLM
from quickstudy.backbones.causal_shapes import CausalShapes, FusedAttention
from quickstudy.core.errors import InputError, NotAvailable
from quickstudy.core.functional import Functional
from quickstudy.core.memory_watch import MemoryWatch


@pytest.mark.parametrize("kind", CONFIGS)
def test_parameters_linears_and_logits_are_those_of_the_model(kind, language_model):
    real, shapes = CausalLM(language_model(kind)), CausalShapes(language_model(kind))
    assert shapes.parameters == sum(tensor.numel() for tensor in real.module().parameters())
    assert (shapes.width, shapes.linears) == (real.width, real.linears)
    start, other = (backbone.start(torch.Generator()) for backbone in (real, shapes))
    assert {name: tensor.shape for name, tensor in start.items()} == {
        name: tensor.shape for name, tensor in other.items()
    }
    expected = real.batch(["abc", "defgh"], ["xyzxyz", "xyzx"])
    found = shapes.batch(2, 10, 7)
    for name, tensor in expected.inputs.items():
        assert (found.inputs[name].shape, found.inputs[name].dtype) == (tensor.shape, tensor.dtype)
    assert found.targets.shape == expected.targets.shape
    logits = Functional(shapes.module)({}, found.inputs)
    assert logits.shape == Functional(real.module)({}, expected.inputs).shape
    assert logits.device.type == "meta"


def test_writing_has_the_shapes_of_writing(language_model):
    real, shapes = CausalLM(language_model("llama")), CausalShapes(language_model("llama"), "bfloat16")
    with torch.no_grad(), FusedAttention():
        inputs, cache = shapes.begin(2, 5), shapes.new_cache()
        module = shapes.module()
        token = module(inputs, cache).argmax(-1)
        later = shapes.after(inputs, token)
        logits = module(later, cache)
    expected = real.after(real.begin(["abcde", "fghij"]), torch.zeros(2, 1, dtype=torch.int64))
    assert {name: tensor.shape for name, tensor in later.items()} == {n: t.shape for n, t in expected.items()}
    assert logits.shape == (2, 1, real.width)
    assert logits.dtype == torch.bfloat16
    assert cache.get_seq_length() == 6


def test_fused_attention_takes_its_output_only():
    query, key = torch.empty(2, 3, 40, 8, device="meta"), torch.empty(2, 3, 70, 8, device="meta")
    attend = torch.nn.functional.scaled_dot_product_attention
    with torch.no_grad(), MemoryWatch() as plain:
        expected = attend(query, key, key)
    with torch.no_grad(), FusedAttention(), MemoryWatch() as fused:
        found = attend(query, key, key)
    assert found.shape == expected.shape
    assert fused.peak == found.nbytes
    assert plain.peak > 2 * 3 * 40 * 70 * 4


def test_a_configuration_is_enough(language_model, tmp_path):
    shutil.copy(Path(language_model("llama"), "config.json"), tmp_path)
    expected = CausalShapes(language_model("llama")).parameters
    assert CausalShapes(str(tmp_path)).parameters == expected
    assert CausalShapes(str(tmp_path / "config.json")).parameters == expected


def test_what_is_no_language_model_is_refused(language_model, tmp_path):
    for name in ("someone/not-on-this-machine", str(tmp_path)):
        with pytest.raises(NotAvailable, match=r"no configuration .* give a config\.json"):
            _ = CausalShapes(name).model
    next(iter(ENCODER_DECODERS.values()))().save_pretrained(tmp_path)
    with pytest.raises(InputError, match="makes no causal language model"):
        _ = CausalShapes(str(tmp_path)).model
    folder = language_model("llama")
    with pytest.raises(InputError, match="expected one of float32, bfloat16"):
        _ = CausalShapes(folder, "int8").model
    with pytest.raises(InputError, match=r"a row has 65 tokens; .* takes 64"):
        CausalShapes(folder).batch(1, 65, 3)
    with pytest.raises(InputError, match="takes 64"):
        CausalShapes(folder).begin(1, 65)
    with pytest.raises(InputError, match="8 of 8 tokens are to be written"):
        CausalShapes(folder).batch(1, 8, 8)
