"""A writer of texts that learns from a handful of examples: prompts, each with what is to be written after it."""

from __future__ import annotations

import time
from dataclasses import asdict
from pathlib import Path
from typing import Any, Self

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.exceptions import NotFittedError

from quickstudy.backbones.causal_lm import CausalLM
from quickstudy.backbones.text_encoder import buckets
from quickstudy.core.errors import InputError, NotFitted
from quickstudy.core.types import Adapter, Info, Json, Params
from quickstudy.learners.writing import write
from quickstudy.lifecycle.examples import checked_texts
from quickstudy.lifecycle.writing_folders import (
    KeptWriter,
    export_written,
    load_writer,
    open_writer,
    packed,
    save_writer,
)
from quickstudy.lifecycle.writing_methods import (
    UNADAPTED,
    Steps,
    WritingMethod,
    build_writing,
    language_model_of,
    model_facts,
    writing_facts,
)
from quickstudy.lifecycle.writing_start import AUTO, chosen_writing
from quickstudy.lifecycle.written_examples import WrittenExamples, deal_halves

CHARACTERS = 1 << 14
"""Characters of prompts, padding included, that are answered at once."""


class WriterNotFitted(NotFitted, NotFittedError):  # type: ignore[misc] # scikit-learn is untyped
    """There is no adapter yet; also scikit-learn's own error for that."""


class FewShotWriter(BaseEstimator):  # type: ignore[misc] # scikit-learn is untyped
    """Adapts a language model to a task of writing from a few examples.

    After `fit`: `adapter_`, what the examples left behind; `info_`, what was measured; `examples_`, the examples, where
    they are kept.

    Args:
        method: `"lora"` (gradient steps on LoRA matrices), `"in_context"` (all examples before each prompt), `"tuned"`
            (both), `"nearest"` (the examples most like the prompt), the folder of a meta-trained start, or `"auto"`:
            the start that ships for this base, or else `"lora"`.
        base: the language model: a folder, a name on the Hugging Face hub, or a `CausalLM`. By a name, a new line is
            put after each prompt.
        most: tokens that are written at most.
        check: whether `fit` measures how often what is written after half of the examples is right on the other half;
            it takes about as long again as adapting.
        steps: how gradient steps are made; None as the method makes them.
        seed: decides starting values, and how the examples are halved.
        keep_examples: whether the examples stay in the writer and in its files.
    """

    def __init__(
        self,
        base: str | CausalLM,
        method: str = AUTO,
        most: int = 256,
        check: bool = True,
        steps: Steps | None = None,
        seed: int = 0,
        keep_examples: bool = True,
    ) -> None:
        self.base = base
        self.method = method
        self.most = most
        self.check = check
        self.steps = steps
        self.seed = seed
        self.keep_examples = keep_examples

    def fit(self, prompts: Any, completions: Any) -> Self:
        """This writer, adapted to the examples; what it learned before is forgotten.

        Args:
            prompts: [example] strings.
            completions: [example] strings: what is to be written after each.

        Raises:
            InputError: something that is no text, with its place; another number of completions than prompts; a
                completion that is longer than the base takes.
            NotAvailable: the base is not here.
        """
        examples = WrittenExamples.checked(prompts, completions)
        method, start = chosen_writing(self.method, language_model_of(self.base), self.seed, self.steps or Steps())
        values: dict[str, float] = {"examples": len(examples.prompts)}
        began = time.perf_counter()
        adapter = _adapted(method, start, examples)
        values["adapt_seconds"] = time.perf_counter() - began
        notes = ["one example only, so nothing could be held out"] if len(examples.prompts) < 2 else []
        if self.check and not notes:
            values |= self._checked(method, start, examples)
        facts = {
            "writes": writing_facts(method.spec),
            "base": model_facts(method.base),
            "learner": dict(adapter.facts),
        }
        tensors = packed(start, adapter)
        self.adapter_ = Adapter(tensors, adapter.learner, (), method.base.fingerprint, facts, values, examples.digest)
        self.info_ = Info(values, tuple(notes))
        self.examples_ = examples if self.keep_examples else None
        return self

    def predict(self, prompts: Any) -> np.ndarray[Any, Any]:
        """[prompt] strings: what is written after each, of the likeliest token each time.

        Raises:
            WriterNotFitted: before `fit`.
            InputError: something that is no text, or a prompt that is longer than the base takes.
        """
        opened = open_writer(self._fitted_adapter(), language_model_of(self.base))
        return self._written(*opened, checked_texts(prompts))

    def before(self, prompts: Any) -> np.ndarray[Any, Any]:
        """[prompt] strings: what the base writes after each without any adapter; `fit` need not have run.

        Raises:
            InputError: as `predict`.
            NotAvailable: the base is not here.
        """
        method = build_writing(UNADAPTED, language_model_of(self.base))
        return self._written(method, {}, Adapter({}, method.spec.learner), checked_texts(prompts))

    def score(self, prompts: Any, completions: Any) -> float:
        """The share of prompts after which exactly the completion is written, but for white space at its ends.

        Raises:
            WriterNotFitted: before `fit`.
            InputError: as `fit`.
        """
        wanted = WrittenExamples.checked(prompts, completions)
        return _share_right(self.predict(wanted.prompts), wanted)

    def save(self, folder: Path | str) -> None:
        """Writes the adapter as `folder`, whole or not at all; an adapter that was there is replaced.

        Raises:
            WriterNotFitted: before `fit`.
            InputError: the folder holds other files, or cannot be written.
        """
        choices: dict[str, Json] = {name: getattr(self, name) for name in ("method", "most", "check", "seed")}
        choices["steps"] = asdict(self.steps or Steps())
        save_writer(folder, KeptWriter(self._fitted_adapter(), choices, self.examples_))

    @classmethod
    def load(cls, folder: Path | str, base: str | CausalLM | None = None) -> Self:
        """The writer in `folder`; it writes the same.

        Args:
            folder: what `save` wrote.
            base: where the base lies now, if it was moved.

        Raises:
            FileRefused: a file is missing, damaged or of another base; `reason` names why.
            InputError: the adapter was not made by a writer.
            NotAvailable: the base is not here.
        """
        kept = load_writer(folder)
        method, *_ = open_writer(kept.adapter, None if base is None else language_model_of(base))
        choices = {**kept.choices, "steps": Steps(**kept.choices["steps"])}
        loaded = cls(method.base, **choices, keep_examples=kept.examples is not None)
        loaded.adapter_ = kept.adapter
        loaded.info_ = Info(dict(kept.adapter.metrics))
        loaded.examples_ = kept.examples
        return loaded

    def to_peft(self, folder: Path | str) -> None:
        """Writes the LoRA matrices as a folder that Hugging Face PEFT and engines such as vLLM load on the base.

        Raises:
            WriterNotFitted: before `fit`.
            InputError: the method has no LoRA matrices, or the folder cannot be written.
        """
        export_written(folder, self._fitted_adapter())

    def _fitted_adapter(self) -> Adapter:
        adapter: Adapter | None = vars(self).get("adapter_")
        if adapter is None:
            raise WriterNotFitted("this FewShotWriter instance is not fitted yet; call fit with examples first")
        return adapter

    def _checked(self, method: WritingMethod, start: Params, examples: WrittenExamples) -> dict[str, float]:
        right = 0.0
        for learned, asked in deal_halves(examples, self.seed):
            adapter = _adapted(method, start, learned)
            right += _share_right(self._written(method, start, adapter, asked.prompts), asked) * len(asked.prompts)
        count = len(examples.prompts)
        return {"held_out_exact": right / count, "held_out_examples": count}

    def _written(
        self, method: WritingMethod, params: Params, adapter: Adapter, prompts: tuple[str, ...]
    ) -> np.ndarray[Any, Any]:
        if self.most < 1:
            raise InputError(f"most is {self.most}; give the tokens to write at most, from 1")
        found = np.empty(len(prompts), dtype=object)
        # What a prompting learner puts before each prompt is kept as tokens, of some three characters each.
        before = 3 * sum(tensor.numel() for name, tensor in adapter.tensors.items() if name == "input_ids")
        for rows in buckets([before + len(prompt) for prompt in prompts], CHARACTERS):
            texts = write(method.learner, params, adapter, [prompts[row] for row in rows], self.most)
            for row, text in zip(rows, texts, strict=True):
                found[row] = text
        return found


def _adapted(method: WritingMethod, start: Params, examples: WrittenExamples) -> Adapter:
    return method.learner.adapt(start, method.support(examples.prompts, examples.completions))


def _share_right(written: np.ndarray[Any, Any], wanted: WrittenExamples) -> float:
    pairs = zip(written.tolist(), wanted.completions, strict=True)
    return float(np.mean([text.strip() == completion.strip() for text, completion in pairs]))
