"""Adapters as folders that Hugging Face PEFT reads and writes: LoRA, AdaLoRA, prompt tuning and prefix tuning.

A folder holds `adapter_config.json` and `adapter_model.safetensors`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeAlias

from torch import Tensor

from quickstudy.core.types import Json, Params
from quickstudy.deltas.adalora import AdaLoRA
from quickstudy.deltas.base import Delta
from quickstudy.deltas.lora import LoRA
from quickstudy.deltas.peft_adalora import adalora_files, read_adalora
from quickstudy.deltas.peft_folder import UNSUPPORTED, PeftFolder, TaskType, common, read_folder, write_folder
from quickstudy.deltas.peft_fronts import prefix_files, prompt_files, read_prefix, read_prompt
from quickstudy.deltas.peft_lora import lora_files, read_lora
from quickstudy.deltas.prefix import Prefix
from quickstudy.deltas.prompt import Prompt

PeftDelta: TypeAlias = LoRA | AdaLoRA | Prompt | Prefix
"""The deltas that have a folder in PEFT."""

_Files: TypeAlias = tuple[dict[str, Json], Params]

_READERS: dict[str, Callable[[PeftFolder], tuple[PeftDelta, Params]]] = {
    "LORA": read_lora,
    "ADALORA": read_adalora,
    "PROMPT_TUNING": read_prompt,
    "PREFIX_TUNING": read_prefix,
}


def write_peft(
    folder: Path | str,
    params: Mapping[str, Tensor],
    delta: Delta,
    base_name: str,
    task_type: TaskType = "FEATURE_EXTRACTION",
) -> None:
    """Writes `params` as a PEFT folder, whole or not at all.

    Args:
        folder: made, or replaced where it holds such a folder already.
        params: the delta's tensors, by their names in the module of a text encoder or language model. Pruned ranks of
            AdaLoRA are left out.
        delta: its hyperparameters are written; the targets written are exactly the layers in `params`.
        base_name: what PEFT users load as the base.
        task_type: what the base is. Prompts and prefixes are written as a causal language model's or an
            encoder-decoder's.

    Raises:
        ValueError: `params` are not the tensors of this delta, or PEFT has no place for them or for the delta.
        InputError: the folder cannot be written.
    """
    kind, task_type, (config, tensors) = _files(delta, params, task_type)
    write_folder(folder, common(base_name, kind, task_type) | config, tensors)


def read_peft(folder: Path | str) -> tuple[PeftDelta, Params]:
    """The delta and its float32 tensors. Targets of LoRA and AdaLoRA are the full names of the layers.

    Raises:
        FileRefused: a file is missing, damaged, a pickle or a link; the folder is of another kind or has a feature that
            is not read (`unsupported`); tensors are missing, of another kind, of the wrong shape, or hold NaN.
    """
    found = read_folder(folder)
    kind = found.config.get("peft_type")
    if not isinstance(kind, str) or kind not in _READERS:
        raise found.refusal(UNSUPPORTED, f"has peft_type {kind!r}; only {', '.join(_READERS)} are read")
    return _READERS[kind](found)


def _files(delta: Delta, params: Mapping[str, Tensor], task_type: TaskType) -> tuple[str, TaskType, _Files]:
    writer: TaskType = "CAUSAL_LM" if task_type == "FEATURE_EXTRACTION" else task_type
    match delta:
        case LoRA():
            return "LORA", task_type, lora_files(delta, params)
        case AdaLoRA():
            return "ADALORA", task_type, adalora_files(delta, params)
        case Prompt():
            return "PROMPT_TUNING", writer, prompt_files(delta, params)
        case Prefix():
            return "PREFIX_TUNING", writer, prefix_files(delta, params, 2 if writer == "SEQ_2_SEQ_LM" else 1)
        case _:
            raise ValueError(f"PEFT has no folder for {delta}; give a LoRA, AdaLoRA, Prompt or Prefix")
