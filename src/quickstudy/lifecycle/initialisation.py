"""Meta-trained parameters on disk, with the method that they are for: what training leaves behind for adapting."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from quickstudy.backbones.text_encoder import TextEncoder
from quickstudy.core.errors import FileRefused, InputError
from quickstudy.core.files import read_tensors
from quickstudy.core.types import Fingerprint, Json, Params
from quickstudy.lifecycle.methods import (
    METHODS,
    Method,
    MethodSpec,
    build_method,
    encoder_facts,
    encoder_from_facts,
    method_spec,
    spec_facts,
    spec_from_facts,
    start_params,
)
from quickstudy.lifecycle.trained_files import (
    FACTS,
    TENSORS,
    check_trained_on,
    load_facts,
    load_params,
    save_trained,
    shipped_for,
)


@dataclass(frozen=True)
class Initialisation:
    """Meta-trained parameters.

    Attributes:
        spec: the method that they are for.
        encoder: the base that they were trained on.
        base: its fingerprint.
        params: dotted name -> tensor.
        provenance: data, seed, options and figures of the training, as JSON.
    """

    spec: MethodSpec
    encoder: TextEncoder
    base: Fingerprint
    params: Params
    provenance: Mapping[str, Json] = field(default_factory=dict)


def save_initialisation(folder: Path | str, initialisation: Initialisation) -> None:
    """Writes `folder`, whole or not at all; an initialisation that was there is replaced.

    Raises:
        InputError: the folder holds other files, or cannot be written.
    """
    facts = {
        "method": spec_facts(initialisation.spec),
        "encoder": encoder_facts(initialisation.encoder),
        "provenance": dict(initialisation.provenance),
    }
    save_trained(folder, initialisation.params, initialisation.base, facts)


def load_initialisation(folder: Path | str) -> Initialisation:
    """The initialisation in `folder`.

    Raises:
        FileRefused: a file is missing or damaged.
    """
    base, facts = load_facts(folder, ("method", "encoder", "provenance"))
    try:
        spec, encoder = spec_from_facts(facts["method"]), encoder_from_facts(facts["encoder"])
    except (ValueError, TypeError) as error:
        raise FileRefused(Path(folder) / FACTS, "not_json", f"{error}; train again") from error
    return Initialisation(spec, encoder, base, read_tensors(Path(folder) / TENSORS), facts["provenance"])


def chosen_method(name: str, encoder: TextEncoder, seed: int) -> tuple[Method, Params]:
    """The method called `name` on the base `encoder`, and its meta-parameters.

    Args:
        name: a row of `methods.METHODS`, or the folder of an initialisation.
        encoder: the base.
        seed: decides starting values where nothing was trained.

    Raises:
        InputError: there is no such method, or the initialisation was trained on other weights.
        FileRefused: the folder's files are missing or damaged.
    """
    if not isinstance(name, str):
        raise InputError(f"method is {name!r}; give one of {', '.join(METHODS)}, or the folder of a trained one")
    if name in METHODS or not Path(name).is_dir():
        method = build_method(method_spec(name), encoder)
        shipped = shipped_for(name, encoder.fingerprint)
        return method, start_params(method, seed) if shipped is None else _params_of(shipped, method, seed)
    found = load_initialisation(name)
    check_trained_on(name, found.base, encoder.fingerprint)
    method = build_method(found.spec, encoder)
    return method, _params_of(Path(name), method, seed)


def _params_of(folder: Path, method: Method, seed: int) -> Params:
    return load_params(folder, start_params(method, seed), method.encoder.device)
