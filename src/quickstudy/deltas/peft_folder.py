"""Files of a PEFT folder: `adapter_config.json` and `adapter_model.safetensors`, refused by name when wrong."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

from torch import Tensor

from quickstudy.core.errors import FileRefused
from quickstudy.core.files import atomic_folder, read_json, read_tensors, write_json, write_tensors
from quickstudy.core.types import Json

CONFIG = "adapter_config.json"
WEIGHTS = "adapter_model.safetensors"
_PICKLED = "adapter_model.bin"
OUTER = "base_model."
"""What PEFT puts before the names of this package, which begin with `model.`."""

TaskType: TypeAlias = Literal["FEATURE_EXTRACTION", "CAUSAL_LM", "SEQ_2_SEQ_LM"]
"""PEFT's word for what the base is: an encoder, a causal language model or an encoder-decoder."""

UNSUPPORTED = "unsupported"
"""The `FileRefused.reason` of a folder that PEFT reads and this package does not; all others are in `core.files`."""


@dataclass(frozen=True)
class PeftFolder:
    """What a folder holds.

    Attributes:
        place: the folder.
        config: the JSON object in it.
        tensors: by PEFT's names.
    """

    place: Path
    config: Json
    tensors: Mapping[str, Tensor]

    def refusal(self, reason: str, message: str) -> FileRefused:
        """The error that refuses the configuration, where it is unsupported, or else the tensors."""
        return FileRefused(self.place / (CONFIG if reason == UNSUPPORTED else WEIGHTS), reason, message)

    def require(self, allowed: Mapping[str, tuple[Json, ...]]) -> None:
        """Refuses a configuration in which an entry is there and is none of those allowed; the first is named."""
        for name, values in allowed.items():
            if name in self.config and self.config[name] not in values:
                message = f"has {name} = {self.config[name]!r}; only {values[0]!r} is read: train it without that"
                raise self.refusal(UNSUPPORTED, message)

    def whole_number(self, name: str) -> int:
        """The entry of this name.

        Raises:
            FileRefused: it is no whole number from 1.
        """
        value = self.config.get(name)
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise self.refusal(UNSUPPORTED, f"has {name} = {value!r}; expected a whole number from 1")
        return value


def write_folder(folder: Path | str, config: Mapping[str, Json], tensors: Mapping[str, Tensor]) -> None:
    """Writes both files, whole or not at all.

    Raises:
        InputError: the folder cannot be written.
    """
    with atomic_folder(folder, droppable=("README.md",)) as place:
        write_tensors(place / WEIGHTS, tensors, {"format": "pt"})
        write_json(place / CONFIG, dict(config))


def read_folder(folder: Path | str) -> PeftFolder:
    """Both files.

    Raises:
        FileRefused: a file is missing, damaged, a pickle or a link, or holds NaN.
    """
    folder = Path(folder)
    if not (folder / WEIGHTS).exists() and (folder / _PICKLED).exists():
        message = "is a pickle, which can run code when it is read; save it again with safe_serialization=True"
        raise FileRefused(folder / _PICKLED, "pickle", message)
    config = read_json(folder / CONFIG)
    if not isinstance(config, dict):
        message = "is not a JSON object; expected the configuration that PEFT writes"
        raise FileRefused(folder / CONFIG, "not_json", message)
    return PeftFolder(folder, config, read_tensors(folder / WEIGHTS))


def is_number(value: Json) -> bool:
    """True for a number of JSON, false for `true`."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def common(base_name: str, kind: str, task_type: str) -> dict[str, Json]:
    """The entries of every configuration."""
    return {
        "peft_type": kind,
        "task_type": task_type,
        "base_model_name_or_path": base_name,
        "inference_mode": True,
        "revision": None,
        "auto_mapping": None,
        "modules_to_save": None,
    }
