"""FewShotWriter learns what the examples say, in every method; its files give the same; bad input is refused."""

import json
import warnings
from dataclasses import replace

import pytest
import torch
from language_models import write_language_model
from peft import PeftModel
from sklearn.base import clone
from transformers import AutoModelForCausalLM

from quickstudy.backbones import CausalLM
from quickstudy.core.adapter_files import FACTS
from quickstudy.core.errors import FileRefused, InputError, NotAvailable
from quickstudy.lifecycle.writer import FewShotWriter, WriterNotFitted
from quickstudy.lifecycle.writing_methods import WRITING, Steps, build_writing
from quickstudy.lifecycle.written_examples import WrittenExamples, deal_halves

WORDS = ["ab", "cad", "dd", "fog", "hen", "lot", "pit", "sun"]
PROMPTS = [f"{word}>" for word in WORDS]
COMPLETIONS = [word[0] * 2 for word in WORDS]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_language_model(tmp_path_factory.mktemp("base"), "llama")


@pytest.fixture(scope="module")
def base(folder):
    return CausalLM(str(folder), max_tokens=48)


@pytest.fixture(scope="module")
def fitted(base):
    return FewShotWriter(base, most=4, check=False, steps=Steps(40, 1e-2)).fit(PROMPTS, COMPLETIONS)


class TestFit:
    def test_lora_writes_its_examples_and_without_steps_does_not(self, base, fitted):
        # A random model: 40 steps on 8 examples teach it these, and nothing else could.
        assert fitted.score(PROMPTS, COMPLETIONS) >= 0.75
        still = {name: torch.zeros_like(tensor) for name, tensor in fitted.adapter_.tensors.items()}
        unmoved = clone(fitted)
        unmoved.adapter_ = replace(fitted.adapter_, tensors=still)
        assert unmoved.score(PROMPTS, COMPLETIONS) == 0

    def test_before_is_what_the_base_writes(self, base, fitted):
        still = {name: torch.zeros_like(tensor) for name, tensor in fitted.adapter_.tensors.items()}
        unmoved = clone(fitted)
        unmoved.adapter_ = replace(fitted.adapter_, tensors=still)
        assert unmoved.predict(PROMPTS).tolist() == clone(fitted).before(PROMPTS).tolist()

    def test_packed_examples_give_the_steps_of_single_ones(self, base):
        pairs = [*PROMPTS, "a longer one>"], [*COMPLETIONS, "with more to say"]
        method = build_writing(replace(WRITING["lora"], steps=3), base)
        support = method.support(*pairs)
        assert len(support.weights) < len(pairs[0])
        packed, single = (method.learner.adapt(method.start(0), rows) for rows in (support, base.batch(*pairs)))
        for name, tensor in single.tensors.items():
            torch.testing.assert_close(packed.tensors[name], tensor, atol=1e-5, rtol=1e-3)
        one_at_a_time = build_writing(replace(WRITING["lora"], steps=3, rows=1), base)
        assert len(one_at_a_time.support(*pairs).weights) == len(pairs[0])

    def test_the_base_stays_as_it_is(self, base, fitted):
        before = {name: tensor.clone() for name, tensor in base.start(torch.Generator()).items()}
        FewShotWriter(base, check=False).fit(PROMPTS[:3], COMPLETIONS[:3])
        assert all(torch.equal(before[name], tensor) for name, tensor in base.start(torch.Generator()).items())

    @pytest.mark.parametrize("method", list(WRITING))
    def test_every_method_keeps_what_it_learned_in_files(self, base, method, tmp_path):
        made = FewShotWriter(base, method, most=3).fit(PROMPTS[:4], COMPLETIONS[:4])
        made.save(tmp_path / "it")
        loaded = FewShotWriter.load(tmp_path / "it")
        assert loaded.predict(PROMPTS).tolist() == made.predict(PROMPTS).tolist()
        assert loaded.examples_ == made.examples_
        assert loaded.get_params()["method"] == method
        assert set(made.info_.values) == {"examples", "adapt_seconds", "held_out_exact", "held_out_examples"}

    def test_the_same_seed_gives_the_same(self, base, fitted):
        again = clone(fitted).fit(PROMPTS, COMPLETIONS)
        assert all(
            torch.equal(tensor, fitted.adapter_.tensors[name]) for name, tensor in again.adapter_.tensors.items()
        )

    def test_steps_are_those_asked_for(self, base, tmp_path):
        still = FewShotWriter(base, most=4, check=False, steps=Steps(count=0)).fit(PROMPTS, COMPLETIONS)
        assert still.predict(PROMPTS).tolist() == still.before(PROMPTS).tolist()
        parts = FewShotWriter(base, check=False, steps=Steps(3, rows=3)).fit(PROMPTS, COMPLETIONS)
        whole = FewShotWriter(base, check=False, steps=Steps(3)).fit(PROMPTS, COMPLETIONS)
        for name, tensor in parts.adapter_.tensors.items():
            torch.testing.assert_close(tensor, whole.adapter_.tensors[name], atol=1e-4, rtol=1e-3)
        parts.save(tmp_path / "it")
        assert FewShotWriter.load(tmp_path / "it").steps == parts.steps
        with pytest.raises(InputError, match="a rate above 0"):
            Steps(rate=0.0)

    def test_a_row_does_not_depend_on_the_others(self, fitted):
        alone = [fitted.predict([prompt])[0] for prompt in PROMPTS]
        assert fitted.predict(PROMPTS).tolist() == alone

    def test_held_out_examples_are_not_learned_from(self):
        examples = WrittenExamples(tuple("abcde"), tuple("vwxyz"))
        parts = list(deal_halves(examples, 0))
        assert sorted(parts[0][1].prompts + parts[1][1].prompts) == list("abcde")
        assert all(not set(learned.prompts) & set(asked.prompts) for learned, asked in parts)

    def test_one_example_is_enough_and_says_that_nothing_was_checked(self, base):
        made = FewShotWriter(base, "in_context", most=2).fit(PROMPTS[:1], COMPLETIONS[:1])
        assert "held_out_exact" not in made.info_.values
        assert made.info_.notes


class TestFiles:
    def test_peft_loads_the_matrices_on_the_base(self, folder, base, fitted, tmp_path):
        fitted.to_peft(tmp_path / "peft")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(folder), tmp_path / "peft").eval()
        inputs = base.begin(PROMPTS[:1])
        ids, steps = inputs["input_ids"], len(fitted.predict(PROMPTS[:1])[0])
        for _ in range(steps):
            ids = torch.cat([ids, model(ids).logits[:, -1].argmax(-1, keepdim=True)], 1)
        assert base.text(ids[0, inputs["input_ids"].shape[1] :].tolist()) == fitted.predict(PROMPTS[:1])[0]

    def test_what_learns_no_matrices_has_none_to_export(self, base, tmp_path):
        made = FewShotWriter(base, "in_context", check=False).fit(PROMPTS[:2], COMPLETIONS[:2])
        with pytest.raises(InputError, match="no LoRA matrices"):
            made.to_peft(tmp_path / "peft")

    def test_another_base_is_refused_by_name(self, fitted, tmp_path):
        fitted.save(tmp_path / "it")
        other = write_language_model(tmp_path / "other", "llama", seed=1)
        with pytest.raises(InputError, match="the base is now 'other'"):
            FewShotWriter.load(tmp_path / "it", str(other))

    def test_a_base_that_was_moved_is_found_where_it_is_now(self, folder, fitted, tmp_path):
        fitted.save(tmp_path / "it")
        moved = tmp_path / "moved"
        moved.symlink_to(folder)
        assert FewShotWriter.load(tmp_path / "it", str(moved)).predict(PROMPTS[:2]).tolist() == (
            fitted.predict(PROMPTS[:2]).tolist()
        )

    def test_damaged_choices_and_examples_are_refused(self, fitted, tmp_path):
        fitted.save(tmp_path / "it")
        examples = tmp_path / "it" / "examples.json"
        kept = examples.read_text()
        examples.write_text(json.dumps({"prompts": ["x"], "completions": ["y"]}))
        with pytest.raises(FileRefused, match="does not hold the examples"):
            FewShotWriter.load(tmp_path / "it")
        examples.write_text(kept)
        facts = json.loads((tmp_path / "it" / FACTS).read_text())
        facts["facts"]["choices"]["most"] = "many"
        (tmp_path / "it" / FACTS).write_text(json.dumps(facts))
        with pytest.raises(FileRefused, match="choices"):
            FewShotWriter.load(tmp_path / "it")


class TestBadInput:
    @pytest.mark.parametrize(
        ("prompts", "completions", "message"),
        [
            ([], [], "no texts"),
            (["a"], ["b", "c"], "1 prompts but 2 completions"),
            (["a", " "], ["b", "c"], "empty"),
            (["a"], [3], "text 0 is a int"),
            (["a"], None, "requires y"),
            (["a"], ["b" * 60], "has 61 tokens"),
        ],
    )
    def test_examples(self, base, prompts, completions, message):
        with pytest.raises(InputError, match=message):
            FewShotWriter(base).fit(prompts, completions)

    def test_before_fit(self, base):
        with pytest.raises(WriterNotFitted, match="call fit"):
            FewShotWriter(base).predict(["a"])

    def test_unknown_method_and_missing_base(self, base):
        with pytest.raises(InputError, match="no method 'magic'"):
            FewShotWriter(base, "magic").fit(["a"], ["b"])
        with pytest.raises(NotAvailable, match="language model"):
            FewShotWriter("no/such/folder").fit(["a"], ["b"])
        with pytest.raises(InputError, match="base is 3"):
            FewShotWriter(3).fit(["a"], ["b"])

    def test_nothing_to_write(self, fitted):
        with pytest.raises(InputError, match="most is 0"):
            clone(fitted).set_params(most=0).fit(PROMPTS, COMPLETIONS).predict(PROMPTS)
