"""Meta-trained parameters on disk."""

import pytest
import torch

from quickstudy import FewShotClassifier, TextEncoder
from quickstudy.core.errors import FileRefused, InputError
from quickstudy.core.files import read_json, write_json, write_tensors
from quickstudy.deltas import LoRA
from quickstudy.lifecycle.initialisation import (
    Initialisation,
    chosen_method,
    load_initialisation,
    save_initialisation,
)
from quickstudy.lifecycle.methods import MethodSpec, build_method, start_params
from quickstudy.lifecycle.trained_files import FACTS, TENSORS

SPEC = MethodSpec("protonet", lora=LoRA(2, 4, layers=(1,)))


@pytest.fixture
def folder(base, tmp_path):
    encoder = TextEncoder(base)
    params = {name: tensor + 0.1 for name, tensor in start_params(build_method(SPEC, encoder), 0).items()}
    made = Initialisation(SPEC, encoder, encoder.fingerprint, params, {"seed": 3, "data": ["a"]})
    save_initialisation(tmp_path / "made", made)
    return tmp_path / "made"


def test_comes_back_as_it_was(folder, base):
    found = load_initialisation(folder)
    assert (found.spec, found.encoder, found.provenance) == (SPEC, TextEncoder(base), {"seed": 3, "data": ["a"]})
    method, params = chosen_method(str(folder), TextEncoder(base), 0)
    assert method is build_method(SPEC, TextEncoder(base))
    start = start_params(method, 0)
    assert params.keys() == start.keys()
    assert all(torch.equal(params[name], start[name] + 0.1) for name in params)


def test_adapting_starts_from_it(folder, base, draw):
    texts, labels = draw(3)
    trained = FewShotClassifier(str(folder), base).fit(texts, labels).predict_proba(texts)
    assert abs(trained - FewShotClassifier("protonet", base).fit(texts, labels).predict_proba(texts)).max() > 0.01


def test_another_base_is_refused(folder, other_base):
    with pytest.raises(InputError, match="give that base or train again"):
        chosen_method(str(folder), TextEncoder(other_base), 0)


def _drop_tensors(folder):
    (folder / TENSORS).unlink()


def _drop_field(folder):
    write_json(folder / FACTS, {k: v for k, v in read_json(folder / FACTS).items() if k != "method"})


def _newer(folder):
    write_json(folder / FACTS, {**read_json(folder / FACTS), "schema_version": 99})


def _not_an_object(folder):
    write_json(folder / FACTS, [])


def _no_method(folder):
    write_json(folder / FACTS, {**read_json(folder / FACTS), "method": {}})


def _other_tensors(folder):
    write_tensors(folder / TENSORS, {"x": torch.zeros(1)})


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (_drop_tensors, "missing_file"),
        (_drop_field, "missing_keys"),
        (_newer, "newer_schema"),
        (_not_an_object, "not_json"),
        (_no_method, "not_json"),
        (_other_tensors, "missing_keys"),
    ],
)
def test_damage_is_refused_by_name(folder, base, damage, reason):
    damage(folder)
    with pytest.raises(FileRefused) as caught:
        chosen_method(str(folder), TextEncoder(base), 0)
    assert caught.value.reason == reason


def test_a_folder_that_is_none_is_refused(tmp_path, base):
    with pytest.raises(FileRefused, match="no such file"):
        chosen_method(str(tmp_path), TextEncoder(base), 0)
