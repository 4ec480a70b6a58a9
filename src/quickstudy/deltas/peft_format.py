"""LoRA weights as folders that Hugging Face PEFT reads and writes.

A folder holds `adapter_config.json` and `adapter_model.safetensors`. PEFT names a matrix
`base_model.<name>.lora_A.weight` where this package says `<name>.lora_A`; `<name>` begins with `model.` in both.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Literal, TypeAlias

import torch
from torch import Tensor

from quickstudy.core.errors import FileRefused
from quickstudy.core.files import atomic_folder, read_json, read_tensors, write_json, write_tensors
from quickstudy.core.types import Json, Params
from quickstudy.deltas.lora import LoRA

CONFIG = "adapter_config.json"
WEIGHTS = "adapter_model.safetensors"
_PICKLED = "adapter_model.bin"
_OUTER = "base_model."
_ENDS = (".lora_A", ".lora_B")

TaskType: TypeAlias = Literal["FEATURE_EXTRACTION", "CAUSAL_LM"]
"""PEFT's word for what the base is: an encoder or a causal language model."""

UNSUPPORTED = "unsupported"
"""The `FileRefused.reason` of a folder that PEFT reads and this package does not; all others are in `core.files`."""

_PLAIN: dict[str, tuple[Json, ...]] = {
    "bias": ("none",),
    "use_dora": (False,),
    "use_qalora": (False,),
    "use_bdlora": (None, False),
    "lora_bias": (False,),
    "fan_in_fan_out": (False, True),  # tells PEFT how GPT-2 keeps its base weights; the matrices are the same
    "modules_to_save": (None, []),
    "rank_pattern": (None, {}),
    "alpha_pattern": (None, {}),
    "layer_replication": (None,),
    "target_parameters": (None, []),
    "trainable_token_indices": (None,),
    "alora_invocation_tokens": (None,),
    "arrow_config": (None,),
    "velora_config": (None,),
    "kasa_config": (None,),
    "monteclora_config": (None,),
    "init_lora_weights": (True, False, "gaussian", "eva", "orthogonal"),
}
"""What these entries must be, if there, for the folder to hold plain LoRA matrices on an unchanged base."""


def write_peft(
    folder: Path | str,
    params: Mapping[str, Tensor],
    lora: LoRA,
    base_name: str,
    task_type: TaskType = "FEATURE_EXTRACTION",
) -> None:
    """Writes `params` as a PEFT folder, whole or not at all.

    Args:
        folder: made, or replaced where it holds such a folder already.
        params: `<name>.lora_A` [rank, input] and `<name>.lora_B` [output, rank], names as in the module of a text
            encoder or language model.
        lora: its rank, alpha and scaling are written; the targets written are exactly the layers in `params`.
        base_name: what PEFT users load as the base.
        task_type: what the base is.

    Raises:
        ValueError: a name or shape is not that of a LoRA matrix of this rank, or a matrix lacks its partner.
        InputError: the folder cannot be written.
    """
    modules = _modules(params)
    for name, tensor in params.items():
        axis = 0 if name.endswith(".lora_A") else 1
        if tensor.dim() != 2 or tensor.shape[axis] != lora.rank:
            raise ValueError(f"{name} has shape {tuple(tensor.shape)}; expected two axes and rank {lora.rank}")
    tensors = {f"{_OUTER}{name}.weight": tensor for name, tensor in params.items()}
    with atomic_folder(folder, droppable=("README.md",)) as place:
        write_tensors(place / WEIGHTS, tensors, {"format": "pt"})
        write_json(place / CONFIG, {**_config(modules, lora, base_name), "task_type": task_type})


def read_peft(folder: Path | str) -> tuple[LoRA, Params]:
    """The delta, whose targets are the full names of the layers, and its float32 matrices.

    Raises:
        FileRefused: a file is missing, damaged, a pickle or a link; the folder is not plain LoRA (`unsupported`);
            matrices are missing, of another kind, of the wrong shape, or hold NaN.
    """
    folder = Path(folder)
    if not (folder / WEIGHTS).exists() and (folder / _PICKLED).exists():
        message = "is a pickle, which can run code when it is read; save it again with safe_serialization=True"
        raise FileRefused(folder / _PICKLED, "pickle", message)
    config = read_json(folder / CONFIG)
    _check_config(folder / CONFIG, config)
    params = _renamed(folder / WEIGHTS, read_tensors(folder / WEIGHTS))
    _check_matrices(folder / WEIGHTS, params, config["r"])
    targets = tuple(sorted({_module(name).removeprefix("model.") for name in params}))
    lora = LoRA(config["r"], config["lora_alpha"], targets, None, bool(config.get("use_rslora", False)))
    return lora, params


def _module(name: str) -> str:
    return name.rpartition(".")[0]


def _modules(params: Mapping[str, Tensor]) -> list[str]:
    if not params:
        raise ValueError("there are no matrices to write; expected those of a LoRA delta")
    for name in params:
        if not (name.startswith("model.") and name.endswith(_ENDS)):
            raise ValueError(f"{name!r} is not the name of a LoRA matrix; expected model.<layer>.lora_A or .lora_B")
        other = _module(name) + _ENDS[name.endswith(_ENDS[0])]
        if other not in params:
            raise ValueError(f"{name!r} is there, but {other!r} is not")
    return sorted({_module(name).removeprefix("model.") for name in params})


def _config(modules: list[str], lora: LoRA, base_name: str) -> Json:
    return {
        "peft_type": "LORA",
        "base_model_name_or_path": base_name,
        "inference_mode": True,
        "r": lora.rank,
        "lora_alpha": lora.alpha,
        "lora_dropout": 0.0,
        "use_rslora": lora.rslora,
        "target_modules": modules,
        "bias": "none",
        "use_dora": False,
        "fan_in_fan_out": False,
        "init_lora_weights": True,
        "modules_to_save": None,
        "layers_to_transform": None,
        "layers_pattern": None,
        "rank_pattern": {},
        "alpha_pattern": {},
        "revision": None,
        "auto_mapping": None,
    }


def _check_config(path: Path, config: Json) -> None:
    if not isinstance(config, dict):
        raise FileRefused(path, "not_json", "is not a JSON object; expected the configuration that PEFT writes")
    if config.get("peft_type") != "LORA":
        raise FileRefused(path, UNSUPPORTED, f"has peft_type {config.get('peft_type')!r}; only 'LORA' is read")
    for name, allowed in _PLAIN.items():
        if name in config and config[name] not in allowed:
            raise FileRefused(
                path,
                UNSUPPORTED,
                f"has {name} = {config[name]!r}; only {allowed[0]!r} is read: train it without that",
            )
    rank, alpha = config.get("r"), config.get("lora_alpha")
    if not isinstance(rank, int) or rank is True or rank < 1 or not _is_number(alpha):
        message = f"has r = {rank!r} and lora_alpha = {alpha!r}; expected a whole number from 1 and a number"
        raise FileRefused(path, UNSUPPORTED, message)


def _is_number(value: Json) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _renamed(path: Path, tensors: Mapping[str, Tensor]) -> Params:
    params = {}
    for name, tensor in sorted(tensors.items()):
        short = name.removeprefix(_OUTER).removesuffix(".weight")
        if f"{_OUTER}{short}.weight" != name or not short.endswith(_ENDS):
            message = f"holds {name!r}; expected only base_model.<layer>.lora_A.weight and .lora_B.weight"
            raise FileRefused(path, "extra_keys", message)
        params[short] = tensor.to(torch.float32)
    return params


def _check_matrices(path: Path, params: Params, rank: int) -> None:
    if not params:
        raise FileRefused(path, "missing_keys", "holds no LoRA matrices; save the adapter again")
    for name, tensor in params.items():
        other = _module(name) + _ENDS[name.endswith(_ENDS[0])]
        if other not in params:
            raise FileRefused(path, "missing_keys", f"holds {name!r} but not {other!r}; save the adapter again")
        if tensor.dim() != 2:
            raise FileRefused(path, "wrong_rank", f"{name!r} has {tensor.dim()} axes, expected 2")
        axis = 0 if name.endswith(".lora_A") else 1
        if tensor.shape[axis] != rank:
            message = f"{name!r} has shape {list(tensor.shape)}, expected {rank} on axis {axis}, the r of {CONFIG}"
            raise FileRefused(path, "wrong_shape", message)
