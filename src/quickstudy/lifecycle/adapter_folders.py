"""A classifier on disk: the adapter's two files and, where they are kept, its examples in `examples.json`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from quickstudy.core.adapter_files import FACTS, load_adapter, write_adapter
from quickstudy.core.errors import FileRefused, InputError
from quickstudy.core.files import atomic_folder, read_json, write_json
from quickstudy.core.types import Adapter, Json
from quickstudy.deltas.lora import LoRA
from quickstudy.deltas.peft_format import write_peft
from quickstudy.lifecycle.examples import Examples, Label, LabelKind
from quickstudy.lifecycle.fitting import Answering, FitChoices

EXAMPLES = "examples.json"
_BODY = "body."
_READERS: Mapping[str, type] = {"str": str, "int": int, "bool": bool}


@dataclass(frozen=True)
class Kept:
    """What a folder holds.

    Attributes:
        adapter: as `fitting.adapt_to` made it.
        choices: what the user chose.
        method: what the user called the method.
        examples: those that it was made from; None where they are not kept.
    """

    adapter: Adapter
    choices: FitChoices
    method: str
    examples: Examples | None

    @property
    def classes(self) -> tuple[Label, ...]:
        """The labels, as they were given."""
        kind: LabelKind = self.adapter.facts["label_kind"]
        if kind == "bool":
            return tuple(name == "True" for name in self.adapter.labels)
        return tuple(int(name) if kind == "int" else name for name in self.adapter.labels)


def save_folder(folder: Path | str, kept: Kept) -> None:
    """Writes `folder`, whole or not at all; an adapter that was there is replaced.

    Raises:
        InputError: the folder holds other files, or cannot be written.
    """
    choices = kept.choices
    chosen = {
        "method": kept.method,
        "class_names": choices.class_names,
        "unknown": choices.unknown,
        "unknown_label": choices.unknown_label,
        "seed": choices.seed,
    }
    adapter = replace(kept.adapter, facts={**kept.adapter.facts, "choices": chosen})
    with atomic_folder(folder, droppable=(EXAMPLES,)) as place:
        write_adapter(place, adapter)
        if kept.examples is not None:
            rows = {"texts": list(kept.examples.texts), "targets": list(kept.examples.targets)}
            write_json(place / EXAMPLES, rows)


def load_folder(folder: Path | str) -> Kept:
    """What `save_folder` wrote.

    Raises:
        FileRefused: a file is missing or damaged, or the examples are not those that the adapter was made from.
        InputError: the adapter was not made from texts.
    """
    adapter = load_adapter(folder)
    path = Path(folder) / FACTS
    facts = adapter.facts
    if facts.get("label_kind") not in _READERS or not isinstance(facts.get("choices"), dict):
        raise InputError(f"{path}: is not the adapter of a text classifier; make it with `quickstudy adapt`")
    try:
        chosen = dict(facts["choices"])
        method = str(chosen.pop("method"))
        kept = Kept(adapter, FitChoices(**chosen), method, None)
        if facts["label_kind"] == "int":
            list(map(int, adapter.labels))
    except (KeyError, TypeError, ValueError) as error:
        raise FileRefused(path, "not_json", f"the classifier's facts are damaged ({error}); adapt again") from error
    if not (Path(folder) / EXAMPLES).exists():
        return kept
    return replace(kept, examples=_examples(Path(folder) / EXAMPLES, kept))


def export_peft(folder: Path | str, answering: Answering) -> None:
    """Writes the LoRA matrices in force as a PEFT folder.

    Raises:
        InputError: the method has none, or the folder cannot be written.
    """
    lora = answering.method.spec.lora
    tensors = {**answering.params, **answering.adapter.tensors}
    matrices = {
        name.removeprefix(_BODY): tensor
        for name, tensor in tensors.items()
        if name.startswith(_BODY) and name.endswith((".lora_A", ".lora_B"))
    }
    if not isinstance(lora, LoRA) or not matrices:
        raise InputError(
            f"the method {answering.method.spec.learner!r} moves nothing in the encoder, so there are no LoRA matrices "
            "to write as PEFT; save the adapter with save, or adapt with a method that has LoRA"
        )
    write_peft(folder, matrices, lora, answering.method.encoder.name)


def _examples(path: Path, kept: Kept) -> Examples:
    rows: Json = read_json(path)
    try:
        texts, targets = tuple(rows["texts"]), tuple(rows["targets"])
        examples = Examples(texts, targets, kept.classes, kept.adapter.facts["label_kind"])
        same = len(texts) == len(targets) and examples.digest == kept.adapter.support_hash
    except (KeyError, TypeError, IndexError, AttributeError):
        same = False
    if not same:
        message = "does not hold the examples that the adapter was made from; delete it to use the adapter without them"
        raise FileRefused(path, "extra_keys", message)
    return examples
