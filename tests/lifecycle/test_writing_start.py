"""A meta-trained start of a language model's adapters comes back from its folder, and adapting begins at it."""

import pytest
import torch
from language_models import write_language_model

from quickstudy.backbones import CausalLM
from quickstudy.core.errors import FileRefused, InputError
from quickstudy.core.files import read_json, write_json
from quickstudy.deltas import LoRA
from quickstudy.lifecycle.trained_files import FACTS, TENSORS
from quickstudy.lifecycle.writer import FewShotWriter
from quickstudy.lifecycle.writing_methods import Steps, WritingSpec, build_writing
from quickstudy.lifecycle.writing_start import WritingStart, chosen_writing, save_writing_start

PROMPTS, COMPLETIONS = ["ab>", "cad>", "dd>"], ["aa", "cc", "dd"]
SPEC = WritingSpec("maml", lora=LoRA(2, 4, ("q_proj", "v_proj")), steps=1, rate=1e-2)


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return CausalLM(str(write_language_model(tmp_path_factory.mktemp("base"), "llama")), max_tokens=48)


@pytest.fixture
def made(base):
    method = build_writing(SPEC, base)
    return {name: tensor + 0.3 for name, tensor in method.start(0).items()}


@pytest.fixture
def folder(base, made, tmp_path):
    save_writing_start(tmp_path / "start", WritingStart(SPEC, base, made, {"steps": 3}))
    return tmp_path / "start"


def test_it_comes_back_as_it_was(base, made, folder):
    method, params = chosen_writing(str(folder), base, 0, Steps())
    assert method is build_writing(SPEC, base)
    assert params.keys() == made.keys()
    assert all(torch.equal(params[name], tensor) for name, tensor in made.items())


def test_one_without_tensors_gives_its_settings_and_begins_where_its_method_does(base, tmp_path):
    save_writing_start(tmp_path / "start", WritingStart(SPEC, base, {}))
    method, params = chosen_writing(str(tmp_path / "start"), base, 7, Steps())
    assert method is build_writing(SPEC, base)
    assert all(torch.equal(params[name], tensor) for name, tensor in method.start(7).items())


def test_adapting_begins_at_it_and_its_files_stand_alone(base, made, folder, tmp_path):
    writer = FewShotWriter(base, str(folder), most=4, check=False).fit(PROMPTS, COMPLETIONS)
    far = [abs(writer.adapter_.tensors[name] - tensor).max() for name, tensor in made.items()]
    assert max(far) < 0.02  # one step of Adam
    writer.save(tmp_path / "it")
    (folder / TENSORS).unlink()
    assert FewShotWriter.load(tmp_path / "it").predict(PROMPTS).tolist() == writer.predict(PROMPTS).tolist()


def test_what_a_learner_leaves_alone_goes_into_the_adapter(base, made, tmp_path):
    """In context nothing moves, but the start's matrices count."""
    spec = WritingSpec("demonstrations", lora=SPEC.lora)
    save_writing_start(tmp_path / "start", WritingStart(spec, base, made))
    trained = FewShotWriter(base, str(tmp_path / "start"), most=6, check=False).fit(PROMPTS, COMPLETIONS)
    plain = FewShotWriter(base, "in_context", most=6, check=False).fit(PROMPTS, COMPLETIONS)
    assert trained.predict(PROMPTS).tolist() != plain.predict(PROMPTS).tolist()
    trained.save(tmp_path / "it")
    assert FewShotWriter.load(tmp_path / "it").predict(PROMPTS).tolist() == trained.predict(PROMPTS).tolist()


def test_another_base_and_damaged_files_are_refused(base, folder, tmp_path):
    other = CausalLM(str(write_language_model(tmp_path / "other", "llama", seed=1)), max_tokens=48)
    with pytest.raises(InputError, match="give that base or train again"):
        chosen_writing(str(folder), other, 0, Steps())
    facts = read_json(folder / FACTS)
    write_json(folder / FACTS, {**facts, "writes": {"learner": "maml"}})
    with pytest.raises(FileRefused, match="is not a method"):
        chosen_writing(str(folder), base, 0, Steps())
    write_json(folder / FACTS, {name: value for name, value in facts.items() if name != "writes"})
    with pytest.raises(FileRefused, match="lacks writes"):
        chosen_writing(str(folder), base, 0, Steps())


def test_auto_without_a_shipped_start_is_lora(base):
    assert chosen_writing("auto", base, 0, Steps())[0] is chosen_writing("lora", base, 0, Steps())[0]
