"""The ways to make an adapter for a language model, by name: which learner, with which settings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from functools import lru_cache
from types import MappingProxyType
from typing import Any

import torch

from quickstudy.backbones.causal_lm import CausalLM
from quickstudy.core.errors import InputError
from quickstudy.core.inner import InnerLoop
from quickstudy.core.optimisers import Adam
from quickstudy.core.types import Batch, Json, Params
from quickstudy.deltas.base import Delta
from quickstudy.deltas.head import Head
from quickstudy.deltas.lora import LoRA
from quickstudy.learners.base import Learner
from quickstudy.learners.names import learner_class
from quickstudy.learners.network import Network
from quickstudy.lifecycle.methods import Plain, lora_facts, lora_from_facts

_MODEL_FIELDS = ("name", "revision", "max_tokens", "between", "chat", "dtype", "objective", "quantised")

CONTEXT = 2048
"""Tokens of a prompt with its completion, and with the examples before it, for a base that is given by its name."""


@dataclass(frozen=True)
class WritingSpec:
    """A method, said in plain values, so that it can be written down and made again.

    Attributes:
        learner: row of `learners.names`.
        settings: fields of the learner and their values, other than its network and its inner loop.
        lora: what moves; with no targets, the matrices stand beside all linear layers. None where nothing moves.
        steps: gradient steps on the examples, by Adam; 0 for learners that make none.
        rate: of these steps.
        rows: examples whose gradient is computed at once; 0 for all.
    """

    learner: str
    settings: tuple[tuple[str, Plain], ...] = ()
    lora: LoRA | None = None
    steps: int = 0
    rate: float = 0.0
    rows: int = 0


@dataclass(frozen=True)
class Steps:
    """How gradient steps are made by a method that makes any. None leaves what the method has.

    Attributes:
        count: how many.
        rate: of Adam.
        rows: examples whose gradient is computed at once, 0 for all; fewer take less memory.

    Raises:
        InputError: a number is too small.
    """

    count: int | None = None
    rate: float | None = None
    rows: int | None = None

    def __post_init__(self) -> None:
        if min(self.count or 0, self.rows or 0) < 0 or (self.rate is not None and not self.rate > 0):
            raise InputError(f"{self}: give numbers from 0, and a rate above 0")

    def of(self, spec: WritingSpec) -> WritingSpec:
        """`spec` with these steps, if it makes any."""
        if not spec.steps:
            return spec
        return replace(
            spec,
            steps=spec.steps if self.count is None else self.count,
            rate=spec.rate if self.rate is None else self.rate,
            rows=spec.rows if self.rows is None else self.rows,
        )


@dataclass(frozen=True)
class WritingMethod:
    """A method ready to run.

    Attributes:
        spec: what it was made from.
        base: the language model.
        learner: the learner.
    """

    spec: WritingSpec
    base: CausalLM
    learner: Learner

    def start(self, seed: int) -> Params:
        """Meta-parameters as the learner begins with."""
        return self.learner.init(torch.Generator().manual_seed(seed))

    def support(self, prompts: Sequence[str], completions: Sequence[str], notes: Sequence[str] = ()) -> Batch:
        """The examples as the learner reads them: packed where each counts by itself and all are computed at once."""
        return self.base.batch(prompts, completions, self.learner.packs and not self.spec.rows, notes)


WRITING: Mapping[str, WritingSpec] = MappingProxyType(
    {
        "lora": WritingSpec("maml", lora=LoRA(8, 16, ()), steps=40, rate=1e-3),
        "tuned": WritingSpec("tuned_demonstrations", lora=LoRA(8, 16, ()), steps=30, rate=1e-3),
        "in_context": WritingSpec("demonstrations"),
        "nearest": WritingSpec("demonstrations", (("choose", "nearest"), ("most", 8))),
    }
)
"""The methods that need no training of their own: gradient steps on LoRA matrices from a random start; the same while
all examples are read in context, which then stand before each prompt too; all examples before each prompt without any
step; and the eight that are most like it."""

UNADAPTED = WritingSpec("maml")
"""What leaves the base as it is."""


@lru_cache(maxsize=8)
def build_writing(spec: WritingSpec, base: CausalLM) -> WritingMethod:
    """The method on this base. Equal arguments give the same object, so that what it computes with is shared.

    Raises:
        InputError: the learner does not take these settings.
        NotAvailable: the base is not here.
    """
    delta: Delta = Head()
    if spec.lora is not None:
        lora = spec.lora if spec.lora.targets else replace(spec.lora, targets=base.linears)
        spec, delta = replace(spec, lora=lora), lora
    settings: dict[str, Any] = dict(spec.settings)
    made: Any = learner_class(spec.learner)
    if "inner" in {field.name for field in fields(made)}:
        settings["inner"] = InnerLoop(spec.steps, Adam(spec.rate), 1.0, order="first", rows=spec.rows or None)
    try:
        return WritingMethod(spec, base, made(network=Network(base, delta, device=base.device), **settings))
    except TypeError as error:
        raise InputError(f"the learner {spec.learner!r} cannot be made so: {error}") from error


def writing_facts(spec: WritingSpec) -> Json:
    """`spec` as JSON."""
    return {**asdict(spec), "settings": dict(spec.settings), "lora": lora_facts(spec.lora)}


def writing_from_facts(facts: Json) -> WritingSpec:
    """The spec that `writing_facts` wrote.

    Raises:
        ValueError: `facts` are not that.
    """
    try:
        settings = tuple(facts["settings"].items())
        return WritingSpec(**{**facts, "settings": settings, "lora": lora_from_facts(facts["lora"])})
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"is not a method: {error}") from error


def language_model_of(base: str | CausalLM) -> CausalLM:
    """The language model that a user means by `base`.

    Raises:
        InputError: it is neither a name nor a `CausalLM`.
    """
    if isinstance(base, CausalLM):
        return base
    if not isinstance(base, str) or not base:
        raise InputError(f"base is {base!r}; give a folder, a hub name or a CausalLM")
    return CausalLM(base, max_tokens=CONTEXT, between="\n")


def model_facts(base: CausalLM) -> Json:
    """The fields of `base` that decide what it writes, as JSON."""
    return {name: getattr(base, name) for name in _MODEL_FIELDS}


def model_from_facts(facts: Json) -> CausalLM:
    """The language model that `model_facts` wrote.

    Raises:
        ValueError: `facts` are not that.
    """
    try:
        return CausalLM(**facts)
    except TypeError as error:
        raise ValueError(f"is not a language model: {error}") from error
