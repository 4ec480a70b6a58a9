"""Examples to an adapter that stands by itself, and an adapter to answers.

An adapter made here holds all that its answers need but the base: the learner's tensors as `adapter.<name>`, the
meta-parameters that adapting left alone as `meta.<name>`, and in its facts the method, the base, the temperature and
the threshold.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import get_args

import torch
from torch import Tensor

from quickstudy.backbones.text_encoder import TextEncoder, buckets
from quickstudy.core.errors import InputError, TaskError
from quickstudy.core.types import Adapter, Batch, Info, Json, Params
from quickstudy.evaluation.calibration import expected_calibration_error
from quickstudy.evaluation.out_of_scope import ScoreKind, choose_threshold, scope_scores
from quickstudy.lifecycle.examples import Examples
from quickstudy.lifecycle.held_out import HeldOut, deal_folds, fit_shrunk_temperature, held_out
from quickstudy.lifecycle.methods import (
    Method,
    MethodSpec,
    build_method,
    encoder_facts,
    encoder_from_facts,
    measurable,
    spec_facts,
    spec_from_facts,
)
from quickstudy.lifecycle.trained_files import check_made_for
from quickstudy.tasks.table import class_text, listed

KEPT = 0.95
"""The share of questions within the classes that a fitted threshold is to let through."""

CHARACTERS = 1 << 16
"""Characters, padding included, that are answered at once."""

_ADAPTER, _META = "adapter.", "meta."


@dataclass(frozen=True)
class FitChoices:
    """What the user chose.

    Attributes:
        class_names: whether each class's name joins the support as one more example of it.
        unknown: None to answer with a class always; "auto" to answer `unknown_label` where the method's score of scope
            is below a threshold that lets about 95 % of the questions through that belong to a class; or a
            probability, to answer it where the largest probability is below that.
        unknown_label: see `unknown`.
        seed: decides how the examples are dealt into folds, and starting values.
    """

    class_names: bool = True
    unknown: str | float | None = None
    unknown_label: str = "unknown"
    seed: int = 0


def adapt_to(method: Method, params: Params, examples: Examples, choices: FitChoices) -> tuple[Adapter, Info]:
    """An adapter for `examples`, and what was measured on the way.

    Texts that are longer than the base takes are cut; the info counts them. Its seconds are those of tokenising,
    encoding and fitting, not of loading the base.

    Raises:
        TaskError: the label for unknown questions is a class, or no threshold can be fitted.
        InputError: `unknown` is none of its choices.
    """
    _check_unknown(choices, examples)
    base = method.encoder.fingerprint
    began = time.perf_counter()
    named = choices.class_names and _tell_something(examples)
    names = [class_text(name) for name in examples.names] if named else []
    support = _support(method, examples, names)
    learned = method.learner.adapt(params, support)
    found = _held_out(method, params, support, examples, choices)
    temperature = fit_shrunk_temperature(found)
    scope, threshold = _threshold(method.spec, choices, found, temperature)
    values = _figures(examples, found, temperature, threshold)
    values["cut_texts"] = method.encoder.count_cut(examples.texts)
    tensors = {f"{_ADAPTER}{name}": tensor.detach().cpu() for name, tensor in learned.tensors.items()}
    still = {name: tensor for name, tensor in params.items() if name not in learned.tensors}
    tensors |= {f"{_META}{name}": tensor.detach().cpu() for name, tensor in still.items()}
    values["adapt_seconds"] = time.perf_counter() - began
    facts: dict[str, Json] = {
        "method": spec_facts(method.spec),
        "base": encoder_facts(method.encoder),
        "learner": dict(learned.facts),
        "class_names": named,
        "label_kind": examples.kind,
        "temperature": temperature,
        "threshold": threshold,
        "scope": scope,
        "unknown_label": choices.unknown_label,
    }
    adapter = Adapter(tensors, learned.learner, examples.names, base, facts, values, examples.digest)
    return adapter, Info(values, _notes(examples, choices, named, values))


@dataclass(frozen=True)
class Answering:
    """An adapter ready to answer.

    Attributes:
        method: how.
        params: the meta-parameters.
        adapter: as the learner made it.
        temperature: divides the logits.
        threshold: the score below which the answer is unknown; None for never.
        scope: which score.
    """

    method: Method
    params: Params
    adapter: Adapter
    temperature: float
    threshold: float | None
    scope: ScoreKind

    def known(self, logits: Tensor) -> Tensor:
        """[text] whether the answer at these `logits` [text, class] is one of the classes."""
        if self.threshold is None:
            return torch.ones(len(logits), dtype=torch.bool)
        return scope_scores(logits, self.scope) >= self.threshold

    def logits(self, texts: Sequence[str]) -> Tensor:
        """[text, class] float64, divided by the temperature. Computed in parts of like length, in bounded memory."""
        method = self.method
        longest = 6 * method.encoder.max_tokens
        found = torch.empty(len(texts), len(self.adapter.labels), dtype=torch.float64)
        for rows in buckets([min(len(text), longest) for text in texts], CHARACTERS):
            with torch.no_grad():
                inputs = method.backbone.inputs([texts[row] for row in rows])
                found[rows] = method.learner.predict(self.params, self.adapter, inputs).mean.double().cpu()
        return found / self.temperature


def open_adapter(adapter: Adapter, encoder: TextEncoder | None = None) -> Answering:
    """`adapter`, made by `adapt_to`, on its base.

    Args:
        adapter: what `adapt_to` returned, or the same read from its files.
        encoder: the base, if it does not lie where it lay when the adapter was made.

    Raises:
        InputError: the adapter was not made by `adapt_to`, or for other weights than the base has.
        NotAvailable: the base is not here.
    """
    facts = adapter.facts
    try:
        spec = spec_from_facts(facts["method"])
        encoder = encoder or encoder_from_facts(facts["base"])
        temperature, threshold, learner_facts = facts["temperature"], facts["threshold"], facts["learner"]
        scope = facts["scope"]
        if not isinstance(temperature, float | int) or not isinstance(threshold, float | int | None):
            raise ValueError(f"temperature {temperature!r} and threshold {threshold!r} are not numbers")
        if scope not in get_args(ScoreKind):
            raise ValueError(f"scope {scope!r} is none of {', '.join(get_args(ScoreKind))}")
    except (KeyError, ValueError) as error:
        raise InputError(f"this adapter cannot be used to answer texts: {error}; make it with `adapt`") from error
    check_made_for(adapter, encoder.fingerprint)
    method = build_method(spec, encoder)
    learned = replace(adapter, tensors=_part(adapter, _ADAPTER, encoder.device), facts=learner_facts)
    return Answering(method, _part(adapter, _META, encoder.device), learned, float(temperature), threshold, scope)


def _part(adapter: Adapter, prefix: str, device: str) -> Params:
    found = {name: tensor for name, tensor in adapter.tensors.items() if name.startswith(prefix)}
    return {name.removeprefix(prefix): tensor.to(device) for name, tensor in found.items()}


def _check_unknown(choices: FitChoices, examples: Examples) -> None:
    unknown = choices.unknown
    if unknown is None:
        return
    number = isinstance(unknown, int | float) and not isinstance(unknown, bool)
    if not (unknown == "auto" or (number and 0 <= float(unknown) <= 1)):
        raise InputError(f"unknown is {unknown!r}; give None, 'auto' or a probability from 0 to 1")
    if choices.unknown_label in examples.names:
        raise TaskError(
            f"{choices.unknown_label!r} is a class of the examples and the answer for unknown questions; leave these "
            "examples out, or give another unknown_label"
        )


def _tell_something(examples: Examples) -> bool:
    """Whether class names are words, not numbers or truth values."""
    lettered = all(any(character.isalpha() for character in name) for name in examples.names)
    return lettered and examples.kind == "str"


def _support(method: Method, examples: Examples, names: Sequence[str]) -> Batch:
    ways = len(examples.classes)
    inputs = method.backbone.inputs([*examples.texts, *names])
    targets = torch.tensor([*examples.targets, *range(len(names))])
    weights = torch.tensor([1.0] * len(examples.texts) + [method.spec.name_weight] * len(names))
    device = method.encoder.device
    return Batch(inputs, targets.to(device), weights.to(device), ways)


def _held_out(method: Method, params: Params, support: Batch, examples: Examples, choices: FitChoices) -> HeldOut:
    if method.spec.folds < 2:
        return HeldOut(torch.empty(0, support.ways), torch.empty(0, dtype=torch.long))
    generator = torch.Generator().manual_seed(choices.seed)
    if choices.unknown == "auto" and method.spec.held_out_settings:
        # A threshold must be on the scores that the adapter will give, so the parts are adapted to in full.
        return held_out(method.learner, params, support, deal_folds(examples.targets, 2, generator))
    folds = deal_folds(examples.targets, method.spec.folds, generator)
    return held_out(*measurable(method, params, support), folds)


def _threshold(
    spec: MethodSpec, choices: FitChoices, found: HeldOut, temperature: float
) -> tuple[ScoreKind, float | None]:
    if choices.unknown is None:
        return spec.scope, None
    if choices.unknown != "auto":
        return "probability", float(choices.unknown)
    if not len(found.targets):
        raise TaskError(
            "a threshold for unknown questions cannot be fitted: it takes two examples of a class, or class names; add "
            "examples, or give the threshold as a probability"
        )
    return spec.scope, choose_threshold(scope_scores(found.logits.double() / temperature, spec.scope), KEPT)


def _figures(examples: Examples, found: HeldOut, temperature: float, threshold: float | None) -> dict[str, float]:
    values: dict[str, float] = {
        "examples": len(examples.texts),
        "classes": len(examples.classes),
        "temperature": temperature,
    }
    if len(found.targets):
        probabilities = (found.logits.double() / temperature).softmax(-1)
        values["held_out_accuracy"] = found.accuracy
        values["held_out_ece"] = expected_calibration_error(probabilities, found.targets)
        values["held_out_examples"] = len(found.targets)
    if threshold is not None:
        values["threshold"] = threshold
    return values


def _notes(examples: Examples, choices: FitChoices, named: bool, values: dict[str, float]) -> tuple[str, ...]:
    notes = []
    if values["cut_texts"]:
        notes.append(f"{values['cut_texts']:.0f} texts are longer than the base takes and were cut")
    if choices.class_names and not named:
        notes.append("the labels are not words, so they were not used as examples")
    counts = Counter(examples.targets)
    single = [name for number, name in enumerate(examples.names) if counts[number] == 1]
    if single:
        notes.append(f"{len(single)} classes have one example only: {listed(single)}")
    if "held_out_accuracy" not in values:
        notes.append("nothing could be held out, so accuracy is not known and probabilities are not fitted")
    return tuple(notes)
