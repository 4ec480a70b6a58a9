"""A scikit-learn classifier of texts that learns from a handful of examples."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.exceptions import NotFittedError
from sklearn.utils import Tags

from quickstudy.backbones.text_encoder import TextEncoder
from quickstudy.core.errors import InputError, NotFitted
from quickstudy.core.types import Adapter, Info
from quickstudy.lifecycle.adapter_folders import Kept, export_peft, load_folder, save_folder
from quickstudy.lifecycle.examples import Examples, Label, checked_examples, checked_targets, checked_texts, label_array
from quickstudy.lifecycle.fitting import Answering, FitChoices, adapt_to, open_adapter
from quickstudy.lifecycle.initialisation import chosen_method
from quickstudy.lifecycle.methods import encoder_from_facts, encoder_of


class ClassifierNotFitted(NotFitted, NotFittedError):  # type: ignore[misc] # scikit-learn is untyped
    """There is no adapter yet; also scikit-learn's own error for that."""


class FewShotClassifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc] # scikit-learn is untyped
    """Adapts a text encoder to classes from a few examples of each.

    After `fit`: `classes_` [class], the labels, sorted; `adapter_`, what the examples left behind; `info_`, what was
    measured; `examples_`, the examples, where they are kept.

    >>> classifier = FewShotClassifier("logistic")
    >>> texts = ["where is my parcel", "my parcel is late", "I want my money back", "please refund me"]
    >>> classifier.fit(texts, ["delivery", "delivery", "refund", "refund"]).predict(["give me a refund"]).tolist()
    ['refund']

    Args:
        method: `"auto"`, `"logistic"`, `"ridge"`, `"protonet"`, or the folder of a meta-trained initialisation.
        base: the encoder: `"minilm"`, a folder, a name on the Hugging Face hub, or a `TextEncoder`.
        class_names: whether each class's name is used as one more example of it. Labels without letters are not.
        unknown: None to answer with a class always; `"auto"` to answer `unknown_label` where a score of the logits is
            below a threshold that keeps about 95 % of the questions within the classes, fitted on held-out examples;
            or a probability, to answer it where the largest probability is below that.
        seed: decides how examples are held out, and starting values.
        unknown_label: what `predict` answers then.
        keep_examples: whether the examples stay in the classifier and in its files, as `partial_fit` needs.
    """

    def __init__(
        self,
        method: str = "auto",
        base: str | TextEncoder = "minilm",
        class_names: bool = True,
        unknown: str | float | None = None,
        seed: int = 0,
        unknown_label: str = "unknown",
        keep_examples: bool = True,
    ) -> None:
        self.method = method
        self.base = base
        self.class_names = class_names
        self.unknown = unknown
        self.seed = seed
        self.unknown_label = unknown_label
        self.keep_examples = keep_examples

    def __sklearn_tags__(self) -> Tags:
        """scikit-learn's description of what goes in and out."""
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = False
        tags.input_tags.one_d_array = True
        tags.input_tags.string = True
        tags.no_validation = True
        return tags

    def fit(self, texts: Any, labels: Any) -> Self:
        """This classifier, adapted to the examples; what it learned before is forgotten.

        Args:
            texts: [example] strings. Those longer than the base takes are cut, with a warning; `info_` counts them.
            labels: [example] names, whole numbers or booleans; anything else is used as `str` of it.

        Raises:
            InputError: something that is no text or no label, with its place; another number of labels than texts.
            TaskError: fewer than two classes, or a threshold that cannot be fitted.
            NotAvailable: the base is not here.
        """
        return self._adapt(checked_examples(texts, labels))

    def partial_fit(self, texts: Any, labels: Any) -> Self:
        """This classifier, adapted to what it had and these examples, of old or new classes: as `fit` on the union.

        Raises:
            InputError: as `fit`; or there is an adapter, but the examples that it was made from were not kept.
        """
        if self._adapter is None:
            return self._adapt(checked_examples(texts, labels))
        kept: Examples | None = self.examples_
        if kept is None:
            raise InputError(
                "the examples of this classifier were not kept, so others cannot be added: fit it on all examples "
                "together, or make it with keep_examples=True"
            )
        more = list(labels) if labels is not None else None
        rows = [*kept.texts, *checked_texts(texts)]
        return self._adapt(checked_examples(rows, [*kept.labels, *more] if more is not None else None))

    def predict(self, texts: Any) -> np.ndarray[Any, Any]:
        """[text] the most likely class, or `unknown_label` where `unknown` says so.

        Raises:
            ClassifierNotFitted: before `fit`.
            InputError: something that is no text.
        """
        return self.answer(texts)[0]

    def answer(self, texts: Any) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
        """What `predict` and `predict_proba` return, from one pass over the texts.

        Raises:
            ClassifierNotFitted: before `fit`.
            InputError: something that is no text.
        """
        answering = self._answering()
        logits = answering.logits(checked_texts(texts))
        found: np.ndarray[Any, Any] = self.classes_[logits.argmax(-1).numpy()]
        probabilities: np.ndarray[Any, Any] = logits.softmax(-1).numpy()
        if answering.threshold is None:
            return found, probabilities
        sure = answering.known(logits).tolist()
        labels = [label if known else self.unknown_label for label, known in zip(found.tolist(), sure, strict=True)]
        return np.array(labels, dtype=None if self.classes_.dtype.kind == "U" else object), probabilities

    def predict_proba(self, texts: Any) -> np.ndarray[Any, Any]:
        """[text, class] float64 probabilities in the order of `classes_`, calibrated on held-out examples.

        Raises:
            ClassifierNotFitted: before `fit`.
            InputError: something that is no text.
        """
        return self.answer(texts)[1]

    def score(self, texts: Any, labels: Any, sample_weight: Any = None) -> float:
        """The share of `texts` whose predicted class is their label; labels are compared as strings.

        Raises:
            TaskError: a label that is no class.
        """
        rows = checked_texts(texts)
        self._answering()
        allowed = self.unknown_label if self.unknown is not None else None
        expected = checked_targets(labels, len(rows), self.classes_.tolist(), allowed)
        right = [str(found) == wanted for found, wanted in zip(self.predict(rows).tolist(), expected, strict=True)]
        return float(np.average(right, weights=sample_weight))

    def save(self, folder: Path | str) -> None:
        """Writes the adapter as `folder`, whole or not at all; an adapter that was there is replaced.

        Raises:
            ClassifierNotFitted: before `fit`.
            InputError: the folder holds other files, or cannot be written.
        """
        adapter = self._fitted_adapter()
        save_folder(folder, Kept(adapter, self._choices(), self.method, self.examples_))

    @classmethod
    def load(cls, folder: Path | str, base: str | TextEncoder | None = None) -> Self:
        """The classifier in `folder`, with answers equal to the bit.

        Args:
            folder: what `save` wrote.
            base: where the base lies now, if it was moved.

        Raises:
            FileRefused: a file is missing, damaged or of another base; `reason` names why.
            InputError: the adapter was not made by a classifier.
            NotAvailable: the base is not here.
        """
        kept = load_folder(folder)
        facts, choices = kept.adapter.facts, kept.choices
        encoder = encoder_from_facts(facts["base"]) if base is None else encoder_of(base)
        open_adapter(kept.adapter, encoder)
        plain = encoder == TextEncoder(encoder.name)
        loaded = cls(
            kept.method,
            encoder.name if plain else encoder,
            choices.class_names,
            choices.unknown,
            choices.seed,
            choices.unknown_label,
            kept.examples is not None,
        )
        values = dict(kept.adapter.metrics)
        return loaded._keep(kept.adapter, Info(values), kept.classes, kept.examples)

    def to_peft(self, folder: Path | str) -> None:
        """Writes the LoRA matrices as a folder that Hugging Face PEFT loads on the base; the head is not in it.

        Raises:
            ClassifierNotFitted: before `fit`.
            InputError: the method has no LoRA matrices, or the folder cannot be written.
        """
        self._fitted_adapter()
        export_peft(folder, self._answering())

    @property
    def _adapter(self) -> Adapter | None:
        adapter: Adapter | None = vars(self).get("adapter_")
        return adapter

    def _fitted_adapter(self) -> Adapter:
        if self._adapter is None:
            raise ClassifierNotFitted("this FewShotClassifier instance is not fitted yet; call fit with examples first")
        return self._adapter

    def _choices(self) -> FitChoices:
        return FitChoices(self.class_names, self.unknown, self.unknown_label, self.seed)

    def _answering(self) -> Answering:
        adapter = self._fitted_adapter()
        encoder = encoder_of(self.base)
        return open_adapter(adapter, encoder)

    def _adapt(self, examples: Examples) -> Self:
        method, params = chosen_method(self.method, encoder_of(self.base), self.seed)
        adapter, info = adapt_to(method, params, examples, self._choices())
        return self._keep(adapter, info, examples.classes, examples if self.keep_examples else None)

    def _keep(self, adapter: Adapter, info: Info, classes: Sequence[Label], examples: Examples | None) -> Self:
        self.adapter_ = adapter
        self.info_ = info
        self.classes_ = label_array(classes)
        self.examples_ = examples
        return self
