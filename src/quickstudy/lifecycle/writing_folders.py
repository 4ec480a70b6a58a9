"""A writer on disk: the adapter's two files and, where they are kept, its examples in `examples.json`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from quickstudy.backbones.causal_lm import CausalLM
from quickstudy.core.adapter_files import FACTS, load_adapter, write_adapter
from quickstudy.core.errors import FileRefused, InputError
from quickstudy.core.files import atomic_folder, read_json, write_json
from quickstudy.core.types import Adapter, Json, Params
from quickstudy.deltas.peft_format import write_peft
from quickstudy.lifecycle.adapter_folders import EXAMPLES
from quickstudy.lifecycle.trained_files import check_made_for
from quickstudy.lifecycle.writing_methods import WritingMethod, build_writing, model_from_facts, writing_from_facts
from quickstudy.lifecycle.written_examples import WrittenExamples

_BODY, _META = "body.", "meta."
_CHOICES = {"method": str, "most": int, "check": bool, "seed": int, "steps": dict}


@dataclass(frozen=True)
class KeptWriter:
    """What a folder holds.

    Attributes:
        adapter: as the writer made it.
        choices: what the user chose: "method", "most", "check", "seed" and "steps".
        examples: those that it was made from; None where they are not kept.
    """

    adapter: Adapter
    choices: dict[str, Json]
    examples: WrittenExamples | None


def is_writer(facts: Json) -> bool:
    """Whether the facts are those of the adapter of a language model that writes."""
    return isinstance(facts, Mapping) and "writes" in facts


def save_writer(folder: Path | str, kept: KeptWriter) -> None:
    """Writes `folder`, whole or not at all; an adapter that was there is replaced.

    Raises:
        InputError: the folder holds other files, or cannot be written.
    """
    adapter = replace(kept.adapter, facts={**kept.adapter.facts, "choices": kept.choices})
    with atomic_folder(folder, droppable=(EXAMPLES,)) as place:
        write_adapter(place, adapter)
        if kept.examples is not None:
            rows = {"prompts": list(kept.examples.prompts), "completions": list(kept.examples.completions)}
            write_json(place / EXAMPLES, rows)


def load_writer(folder: Path | str) -> KeptWriter:
    """What `save_writer` wrote.

    Raises:
        FileRefused: a file is missing or damaged, or the examples are not those that the adapter was made from.
        InputError: the adapter was not made by a writer.
    """
    adapter = load_adapter(folder)
    path = Path(folder) / FACTS
    if not is_writer(adapter.facts):
        raise InputError(f"{path}: is not the adapter of a language model; make one from prompts and completions")
    choices = adapter.facts.get("choices")
    if not isinstance(choices, dict) or {name: type(value) for name, value in choices.items()} != _CHOICES:
        raise FileRefused(path, "not_json", f"choices are {choices!r}; adapt again")
    kept = Path(folder) / EXAMPLES
    examples = _examples(kept, adapter.support_hash) if kept.exists() else None
    return KeptWriter(adapter, choices, examples)


def packed(start: Params, adapter: Adapter) -> Params:
    """The tensors of `adapter`, and as `meta.<name>` those of `start` that the network needs beside them."""
    beside = {name: tensor for name, tensor in start.items() if name.startswith(_BODY) and name not in adapter.tensors}
    named = {f"{_META}{name}": tensor for name, tensor in beside.items()}
    return {name: tensor.detach().cpu() for name, tensor in {**named, **adapter.tensors}.items()}


def open_writer(adapter: Adapter, base: CausalLM | None = None) -> tuple[WritingMethod, Params, Adapter]:
    """The method that the adapter was made by, the meta-parameters that it left alone, and the adapter as its learner
    made it, on the base.

    Args:
        adapter: of a writer.
        base: the language model, if it does not lie where it lay when the adapter was made.

    Raises:
        InputError: the adapter was made by no writer, or for other weights than the base has.
        NotAvailable: the base is not here.
    """
    facts = adapter.facts
    try:
        spec, learned = writing_from_facts(facts["writes"]), facts["learner"]
        there = model_from_facts(facts["base"])
    except (KeyError, ValueError) as error:
        raise InputError(f"this adapter cannot be used to write: {error}; make it from prompts again") from error
    if base is not None:
        there = replace(there, name=base.name, revision=base.revision, device=base.device)
    check_made_for(adapter, there.fingerprint)
    moved = {name: tensor.to(there.device) for name, tensor in adapter.tensors.items()}
    still = {name.removeprefix(_META): moved.pop(name) for name in list(moved) if name.startswith(_META)}
    return build_writing(spec, there), still, replace(adapter, tensors=moved, facts=learned)


def export_written(folder: Path | str, adapter: Adapter) -> None:
    """Writes the LoRA matrices of a writer's adapter as a PEFT folder.

    Examples that the method puts before each prompt are not in it.

    Raises:
        InputError: it has none, or the folder cannot be written.
    """
    spec = writing_from_facts(adapter.facts["writes"])
    if spec.lora is None:
        raise InputError(
            f"the method {spec.learner!r} leaves the language model as it is, so there are no LoRA matrices to write "
            "as PEFT; adapt with a method that has LoRA"
        )
    named = {name.removeprefix(_META): tensor for name, tensor in adapter.tensors.items()}
    matrices = {name.removeprefix(_BODY): tensor for name, tensor in named.items() if name.startswith(_BODY)}
    write_peft(folder, matrices, spec.lora, adapter.facts["base"]["name"], "CAUSAL_LM")


def _examples(path: Path, digest: str) -> WrittenExamples:
    rows: Json = read_json(path)
    try:
        examples = WrittenExamples(tuple(rows["prompts"]), tuple(rows["completions"]))
        same = examples.digest == digest
    except (KeyError, TypeError, ValueError):
        same = False
    if not same:
        message = "does not hold the examples that the adapter was made from; delete it to use the adapter without them"
        raise FileRefused(path, "extra_keys", message)
    return examples
