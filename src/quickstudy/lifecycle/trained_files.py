"""Meta-trained parameters on disk: a folder with `initialisation.safetensors` and `initialisation.json`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

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
from quickstudy.core.types import Adapter, Fingerprint, Json, Params
from quickstudy.version import VERSION

SCHEMA = 1
TENSORS = "initialisation.safetensors"
FACTS = "initialisation.json"
SHIPPED = Path(__file__).parent.parent / "shipped"
"""What comes with the package: `<name>-<base>/`, each made by a recipe that its provenance names."""


def save_trained(folder: Path | str, params: Params, base: Fingerprint, facts: Mapping[str, Json]) -> None:
    """Writes `folder`, whole or not at all; one that was there is replaced.

    Args:
        folder: the place.
        params: dotted name -> tensor.
        base: what they were trained on.
        facts: what else is to be known, as JSON.

    Raises:
        InputError: the folder holds other files, or cannot be written.
    """
    described = {"schema_version": SCHEMA, "quickstudy": VERSION, "base": asdict(base), **facts}
    with atomic_folder(folder) as place:
        write_tensors(place / TENSORS, params)
        write_json(place / FACTS, described)


def load_facts(folder: Path | str, names: Sequence[str]) -> tuple[Fingerprint, Json]:
    """The base, and all facts, which have these names among them.

    Raises:
        FileRefused: the file is missing or damaged, or lacks a name.
    """
    path = Path(folder) / FACTS
    facts = read_json(path)
    if not isinstance(facts, dict):
        raise FileRefused(path, "not_json", "is not an object; give the folder that training wrote")
    check_schema(path, facts.get("schema_version"), SCHEMA)
    missing = [name for name in ("quickstudy", "base", *names) if name not in facts]
    if missing:
        raise FileRefused(path, "missing_keys", f"lacks {', '.join(missing)}; train again")
    try:
        return Fingerprint(**facts["base"]), facts
    except TypeError as error:
        raise FileRefused(path, "not_json", f"{error}; train again") from error


def load_params(folder: Path | str, template: Params, device: str, untrained: bool = False) -> Params:
    """The parameters, which have the names, shapes and types of `template`, on the device.

    Args:
        folder: what `save_trained` wrote.
        template: parameters of the same method.
        device: where they shall lie.
        untrained: whether the file may hold none at all, which stands for `template` itself.

    Raises:
        FileRefused: the file is missing or damaged, or they have not.
    """
    path = Path(folder) / TENSORS
    params = read_tensors(path)
    if untrained and not params:
        return template
    check_template(path, params, template)
    return {name: tensor.to(device) for name, tensor in params.items()}


def check_trained_on(folder: Path | str, trained: Fingerprint, base: Fingerprint) -> None:
    """The base is what they were trained on.

    Raises:
        InputError: it has other weights.
    """
    if trained.digest != base.digest:
        raise InputError(
            f"{folder}: was trained on {trained.name!r} (weights {trained.digest[:12]}), the base is "
            f"{base.name!r} (weights {base.digest[:12]}); give that base or train again"
        )


def check_made_for(adapter: Adapter, base: Fingerprint) -> None:
    """The base is what the adapter was made for.

    Raises:
        InputError: it has other weights.
    """
    if adapter.base is None or adapter.base.digest != base.digest:
        was = "nothing" if adapter.base is None else f"{adapter.base.name!r} (weights {adapter.base.digest[:12]})"
        raise InputError(
            f"the adapter was made for {was}, the base is now {base.name!r} (weights {base.digest[:12]}); give that "
            "base or adapt again"
        )


def shipped_for(name: str, base: Fingerprint) -> Path | None:
    """The folder `<name>-*` that comes with the package for this base, or None."""
    for facts in sorted(SHIPPED.glob(f"{name}-*/{FACTS}")):
        if read_json(facts)["base"]["digest"] == base.digest:
            return facts.parent
    return None
