"""The report: parts that add up, sizes of real files, sums that follow what is asked, and what is refused."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from language_models import write_language_model
from transformers import LlamaConfig, MixtralConfig

from quickstudy.backbones import CausalLM
from quickstudy.backbones.causal_shapes import CausalShapes
from quickstudy.core.adapter_files import TENSORS, save_adapter
from quickstudy.core.errors import InputError, NotAvailable
from quickstudy.core.types import Adapter
from quickstudy.deltas.lora import LoRA
from quickstudy.learners.network import Network
from quickstudy.lifecycle.costs import Rows, adaptation, adapter_of, full_tuning, serving
from quickstudy.lifecycle.estimating import DELTAS, LIBRARIES, Machine, Plan, estimate, file_bytes

WORK = ("adaptation", "full_tuning", "serving")
GIB = 1 << 30


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    """A Llama that is large enough for activations to count."""
    sizes = {"hidden_size": 64, "intermediate_size": 176, "num_hidden_layers": 3, "num_attention_heads": 4}
    made = LlamaConfig(**sizes, vocab_size=512, max_position_embeddings=256, tie_word_embeddings=True)
    folder = tmp_path_factory.mktemp("config")
    made.save_pretrained(folder)
    return str(folder)


def report(plan, machine=None):
    return estimate(plan, machine or Machine(8 * GIB, None, "glibc"), time_too=False)


def test_the_parts_make_up_the_peak(config):
    found = report(Plan(config, examples=3, context=64, adapters=4))
    assert json.loads(json.dumps(found)) == found
    for work in WORK:
        parts = found[work]
        assert parts["peak"] == sum(parts[name] for name in ("weights", "adapter", "optimiser", "activations"))
        assert parts["activations"] > 0
        assert parts["weights"] >= 4 * found["parameters"]
    moving = 4 * found["moving_parameters"]
    assert (found["adaptation"]["adapter"], found["adaptation"]["optimiser"]) == (2 * moving, 3 * moving)
    assert found["full_tuning"]["optimiser"] == 3 * 4 * found["parameters"]
    assert found["serving"]["adapter"] == (4 + 3) * moving


@pytest.mark.parametrize("delta", DELTAS)
def test_the_adapters_file_has_the_size_that_was_told(delta, language_model, tmp_path):
    base = CausalLM(language_model("llama"))
    made = DELTAS[delta](4, ("q_proj", "v_proj"))
    params = Network(base, made).init(torch.Generator())
    save_adapter(tmp_path / "a", Adapter(params, "maml"))
    told = report(Plan(base.name, delta, 4, ("q_proj", "v_proj"), context=16))
    assert told["moving_parameters"] == sum(tensor.numel() for tensor in params.values())
    assert told["adapter_file"] == Path(tmp_path / "a" / TENSORS).stat().st_size
    assert file_bytes(adapter_of(CausalShapes(base.name), made)) == told["adapter_file"]


def test_activations_follow_what_is_computed_at_once(config):
    shapes, lora = CausalShapes(config), LoRA(8, 16, ("q_proj", "v_proj"))
    one, four, longer = (adaptation(shapes, lora, Rows(*size)) for size in [(1, 64, 32), (4, 64, 32), (1, 128, 64)])
    assert 3.5 < four.activations / one.activations < 4.1
    # Maps of all pairs of tokens grow with the square.
    assert 2.1 < longer.activations / one.activations < 4
    assert 3.9 < four.operations / one.operations < 4.1
    full = full_tuning(shapes, Rows(4, 64, 32))
    assert full.peak > four.peak
    assert full.operations > four.operations
    half = adaptation(CausalShapes(config, "bfloat16"), lora, Rows(4, 64, 32))
    assert half.weights == pytest.approx(four.weights / 2, rel=0.01)
    # Softmax and norms are computed in float32 all the same, and so is LoRA.
    assert 0.5 < half.activations / four.activations < 0.95
    few, many = (serving(shapes, lora, Rows(2, 64, 32), adapters) for adapters in (1, 101))
    assert many.peak - few.peak == 100 * sum(4 * tensor.numel() for tensor in adapter_of(shapes, lora).values())


def test_what_is_computed_again_is_not_held(config):
    lora, rows = LoRA(8, 16, ("q_proj", "v_proj")), Rows(4, 64, 32)
    kept, again = (CausalShapes(config, recompute=recompute) for recompute in (False, True))
    # Of three layers one is held at a time; the logits are as many.
    assert 0.35 < adaptation(again, lora, rows).activations / adaptation(kept, lora, rows).activations < 0.75
    work = [full_tuning(shapes, rows).operations for shapes in (kept, again)]
    assert 1.2 < work[1] / work[0] < 1.34


def test_logits_of_prompts_are_not_in_it(config):
    shapes, lora = CausalShapes(config), LoRA(8, 16, ("q_proj", "v_proj"))
    few, all_but_one = (adaptation(shapes, lora, Rows(4, 64, asked)) for asked in (1, 63))
    assert all_but_one.peak - few.peak > 2 * 4 * 62 * shapes.width * 4


def test_whether_it_fits(config):
    plan = Plan(config, examples=3, context=64)
    roomy = report(plan)
    peak, heap = roomy["adaptation"]["peak"], roomy["adaptation"]["heap_peak"]
    assert heap == peak + roomy["adaptation"]["activations"]
    for memory, fits, fits_heap in [(heap, True, True), (peak, True, False), (peak - 1, False, False)]:
        found = report(plan, Machine(LIBRARIES + memory, None, "glibc"))["adaptation"]
        assert (found["fits"], found["fits_heap"], found["fits_gpu"]) == (fits, fits_heap, None)
    other = report(plan, Machine(None, 1000, ""))["adaptation"]
    assert (other["fits"], other["heap_peak"], other["fits_gpu"]) == (None, peak, False)


def test_time_grows_with_steps_and_examples(config):
    plan = Plan(config, examples=4, context=64, batch=2, steps=5)
    seconds = [
        estimate(each)["adaptation"]["seconds"]
        for each in (plan, replace(plan, steps=500), replace(plan, examples=400))
    ]
    assert seconds[1] / seconds[0] > 10
    assert seconds[2] / seconds[0] > 10
    assert estimate(plan)["machine"]["memory"] > GIB / 4


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"delta": "x"}, "no delta 'x' to estimate; give one of lora, prompt, prefix"),
        ({"rank": 0}, "rank is 0; give 1 or more"),
        ({"context": 1}, "context is 1; give 2 or more"),
        ({"targets": ("q_proj", "query")}, "no linear layer 'query'; there are down_proj, "),
        ({"context": 4000}, "takes 256: give fewer"),
        ({"context": 64, "completion": 64}, "64 of 64 tokens"),
        ({"dtype": "float16"}, "float32, bfloat16"),
    ],
)
def test_what_has_no_meaning_is_refused(change, expected, config):
    with pytest.raises(InputError, match=expected):
        report(Plan(config, **{"context": 16, **change}))


def test_what_depends_on_values_is_not_guessed(tmp_path):
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2}
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "vocab_size": 64}
    MixtralConfig(**sizes, **heads).save_pretrained(tmp_path)
    with pytest.raises(NotAvailable, match="'mixtral' does not run on empty tensors"):
        report(Plan(str(tmp_path), context=16))


def test_layers_that_cannot_have_an_adapter_for_each_row(tmp_path):
    folder = str(write_language_model(tmp_path, "opt"))
    with pytest.raises(InputError, match="adapters for 2 rows"):
        serving(CausalShapes(folder), LoRA(2, 4, ("fc1",)), Rows(2, 8, 4), 3)
