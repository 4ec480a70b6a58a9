"""Meta-trained parameters on disk, with the method that they are for: what training leaves behind for adapting."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from quickstudy.backbones.text_encoder import TextEncoder
from quickstudy.core.errors import FileRefused, InputError
from quickstudy.core.files import (
    atomic_folder,
    check_schema,
    check_template,
    read_json,
    read_tensors,
    write_json,
    write_tensors,
)
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
from quickstudy.version import VERSION

SCHEMA = 1
TENSORS = "initialisation.safetensors"
FACTS = "initialisation.json"
SHIPPED = Path(__file__).parent.parent / "shipped"
"""What comes with the package: `<method>-<base>/`, each made by a recipe that its provenance names."""

_FIELDS = ("schema_version", "quickstudy", "method", "encoder", "base", "provenance")


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
    base = initialisation.base
    with atomic_folder(folder) as place:
        write_tensors(place / TENSORS, initialisation.params)
        facts = {
            "schema_version": SCHEMA,
            "quickstudy": VERSION,
            "method": spec_facts(initialisation.spec),
            "encoder": encoder_facts(initialisation.encoder),
            "base": {"name": base.name, "revision": base.revision, "digest": base.digest},
            "provenance": dict(initialisation.provenance),
        }
        write_json(place / FACTS, facts)


def load_initialisation(folder: Path | str) -> Initialisation:
    """The initialisation in `folder`.

    Raises:
        FileRefused: a file is missing or damaged.
    """
    path = Path(folder) / FACTS
    facts = read_json(path)
    if not isinstance(facts, dict):
        raise FileRefused(path, "not_json", "is not an object; give the folder that training wrote")
    check_schema(path, facts.get("schema_version"), SCHEMA)
    missing = [name for name in _FIELDS if name not in facts]
    if missing:
        raise FileRefused(path, "missing_keys", f"lacks {', '.join(missing)}; train again")
    try:
        spec, encoder = spec_from_facts(facts["method"]), encoder_from_facts(facts["encoder"])
        base = Fingerprint(**facts["base"])
    except (ValueError, TypeError) as error:
        raise FileRefused(path, "not_json", f"{error}; train again") from error
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
        shipped = shipped_initialisation(name, encoder)
        return method, start_params(method, seed) if shipped is None else _params_of(shipped, method, seed)
    found = load_initialisation(name)
    if found.base.digest != encoder.fingerprint.digest:
        raise InputError(
            f"{name}: was trained on {found.base.name!r} (weights {found.base.digest[:12]}), the base is "
            f"{encoder.fingerprint.name!r} (weights {encoder.fingerprint.digest[:12]}); give that base or train again"
        )
    method = build_method(found.spec, encoder)
    return method, _params_of(Path(name), method, seed)


def shipped_initialisation(name: str, encoder: TextEncoder) -> Path | None:
    """The folder of the initialisation of the method `name` that comes with the package for this base, or None."""
    digest = encoder.fingerprint.digest
    for facts in sorted(SHIPPED.glob(f"{name}-*/{FACTS}")):
        if read_json(facts)["base"]["digest"] == digest:
            return facts.parent
    return None


def _params_of(folder: Path, method: Method, seed: int) -> Params:
    params = read_tensors(folder / TENSORS)
    check_template(folder / TENSORS, params, start_params(method, seed))
    return {key: tensor.to(method.encoder.device) for key, tensor in params.items()}
