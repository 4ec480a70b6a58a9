"""Meta-trained parameters of a language model's adapters, with the method that they are for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from quickstudy.backbones.causal_lm import CausalLM
from quickstudy.core.errors import FileRefused, InputError
from quickstudy.core.types import Json, Params
from quickstudy.lifecycle.trained_files import (
    FACTS,
    check_trained_on,
    load_facts,
    load_params,
    save_trained,
    shipped_for,
)
from quickstudy.lifecycle.writing_methods import (
    WRITING,
    Steps,
    WritingMethod,
    WritingSpec,
    build_writing,
    model_facts,
    writing_facts,
    writing_from_facts,
)

AUTO = "auto"
"""The start that ships for a base, where there is one, and else `lora`."""

SHIPPED_AS = "writer"
"""Begins the names of such starts."""


@dataclass(frozen=True)
class WritingStart:
    """Meta-trained parameters.

    Attributes:
        spec: the method that they are for.
        base: the language model that they were trained on.
        params: dotted name -> tensor; empty where the method begins at values of its own, and only its settings count.
        provenance: data, seed, options and figures of the training, as JSON.
    """

    spec: WritingSpec
    base: CausalLM
    params: Params
    provenance: Mapping[str, Json] = field(default_factory=dict)


def save_writing_start(folder: Path | str, start: WritingStart) -> None:
    """Writes `folder`, whole or not at all; a start that was there is replaced.

    Raises:
        InputError: the folder holds other files, or cannot be written.
    """
    facts = {
        "writes": writing_facts(start.spec),
        "model": model_facts(start.base),
        "provenance": dict(start.provenance),
    }
    save_trained(folder, start.params, start.base.fingerprint, facts)


def chosen_writing(name: str, base: CausalLM, seed: int, steps: Steps) -> tuple[WritingMethod, Params]:
    """The method called `name` on the base, and its meta-parameters.

    Args:
        name: "auto", a row of `WRITING`, or the folder of a start.
        base: the language model.
        seed: decides starting values where nothing was trained.
        steps: how gradient steps are made.

    Raises:
        InputError: there is no such method, or the start was trained on other weights.
        FileRefused: the folder's files are missing or damaged.
        NotAvailable: the base is not here.
    """
    folder: Path | None = None
    if name == AUTO:
        folder = shipped_for(SHIPPED_AS, base.fingerprint)
    elif name not in WRITING:
        folder = Path(name)
        if not folder.is_dir():
            known = ", ".join([AUTO, *WRITING])
            raise InputError(
                f"there is no method {name!r} for a language model; give one of {known}, or the folder of a trained one"
            )
    if folder is None:
        method = build_writing(steps.of(WRITING["lora" if name == AUTO else name]), base)
        return method, method.start(seed)
    trained, facts = load_facts(folder, ("writes", "model", "provenance"))
    check_trained_on(folder, trained, base.fingerprint)
    try:
        method = build_writing(steps.of(writing_from_facts(facts["writes"])), base)
    except ValueError as error:
        raise FileRefused(folder / FACTS, "not_json", f"{error}; train again") from error
    return method, load_params(folder, method.start(seed), base.device, untrained=True)
