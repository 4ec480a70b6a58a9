"""Methods by name, and methods written down and made again."""

import json

import pytest

from quickstudy import TextEncoder
from quickstudy.core.errors import InputError
from quickstudy.deltas import LoRA
from quickstudy.lifecycle.methods import (
    METHODS,
    MethodSpec,
    build_method,
    encoder_facts,
    encoder_from_facts,
    encoder_of,
    method_spec,
    spec_facts,
    spec_from_facts,
)

WITH_LORA = MethodSpec("protonet", (("scale", 2.0),), LoRA(2, 4, ("query",), (0, 1)), name_weight=0.5, folds=0)


@pytest.mark.parametrize("spec", [*METHODS.values(), WITH_LORA], ids=[*METHODS, "lora"])
def test_a_method_comes_back_from_json(spec):
    assert spec_from_facts(json.loads(json.dumps(spec_facts(spec)))) == spec


@pytest.mark.parametrize("change", [{"learner": None}, {"lora": {"rank": 1}}, {"settings": 3}, {"more": 1}])
def test_json_that_is_no_method_is_refused(change):
    facts = {**spec_facts(WITH_LORA), **change}
    if change == {"learner": None}:
        del facts["learner"]
    with pytest.raises(ValueError, match="is not a method"):
        spec_from_facts(facts)
    with pytest.raises(ValueError, match="is not a method"):
        spec_from_facts([])


def test_an_encoder_comes_back_from_json():
    encoder = TextEncoder("some/folder", pooling="cls", max_tokens=7)
    assert encoder_from_facts(json.loads(json.dumps(encoder_facts(encoder)))) == encoder
    with pytest.raises(ValueError, match="is not a text encoder"):
        encoder_from_facts({"nonsense": 1})
    assert encoder_of("minilm") == TextEncoder()
    assert encoder_of(encoder) is encoder


def test_every_method_is_built_once(base):
    encoder = TextEncoder(base)
    for name in METHODS:
        method = build_method(method_spec(name), encoder)
        assert method.learner.name == method.spec.learner
        assert build_method(method_spec(name), TextEncoder(base)) is method


def test_only_the_layers_above_the_lowest_lora_are_computed_anew(base):
    encoder = TextEncoder(base)
    for layers, prefix in (((1,), 1), ((0, 1), 0), (None, 0)):
        spec = MethodSpec("protonet", lora=LoRA(2, 4, layers=layers))
        assert build_method(spec, encoder).backbone == TextEncoder(base, prefix=prefix)


def test_names_and_settings_that_do_not_exist_are_refused(base):
    with pytest.raises(InputError, match="there is no method 'logistics'; give one of auto"):
        method_spec("logistics")
    with pytest.raises(InputError, match="quickstudy train"):
        method_spec("reptile")
    with pytest.raises(InputError, match="'ridge' has no setting wheels"):
        build_method(MethodSpec("ridge", (("wheels", 4),)), TextEncoder(base))
