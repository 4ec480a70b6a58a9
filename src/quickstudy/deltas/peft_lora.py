"""LoRA in PEFT's files: a matrix is `base_model.<name>.lora_A.weight` where this package says `<name>.lora_A`."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from quickstudy.core.types import Json, Params
from quickstudy.deltas.lora import LoRA
from quickstudy.deltas.peft_folder import OUTER, UNSUPPORTED, PeftFolder, is_number

_ENDS = (".lora_A", ".lora_B")

PLAIN: dict[str, tuple[Json, ...]] = {
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


def lora_files(lora: LoRA, params: Mapping[str, Tensor]) -> tuple[dict[str, Json], Params]:
    """The entries of the configuration that are LoRA's own, and the tensors by PEFT's names.

    Raises:
        ValueError: a name or shape is not that of a LoRA matrix of this rank, or a matrix lacks its partner.
    """
    modules = _modules(params)
    for name, tensor in params.items():
        axis = 0 if name.endswith(".lora_A") else 1
        if tensor.dim() != 2 or tensor.shape[axis] != lora.rank:
            raise ValueError(f"{name} has shape {tuple(tensor.shape)}; expected two axes and rank {lora.rank}")
    return _config(modules, lora), {f"{OUTER}{name}.weight": tensor for name, tensor in params.items()}


def read_lora(folder: PeftFolder) -> tuple[LoRA, Params]:
    """The delta, whose targets are the full names of the layers, and its float32 matrices.

    Raises:
        FileRefused: the folder is not plain LoRA; matrices are missing, of another kind or of the wrong shape.
    """
    folder.require(PLAIN)
    config = folder.config
    rank, alpha = config.get("r"), config.get("lora_alpha")
    if not isinstance(rank, int) or rank is True or rank < 1 or not is_number(alpha):
        message = f"has r = {rank!r} and lora_alpha = {alpha!r}; expected a whole number from 1 and a number"
        raise folder.refusal(UNSUPPORTED, message)
    params = _renamed(folder)
    _check_matrices(folder, params, rank)
    targets = tuple(sorted({_module(name).removeprefix("model.") for name in params}))
    return LoRA(rank, alpha, targets, None, bool(config.get("use_rslora", False))), params


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


def _config(modules: list[str], lora: LoRA) -> dict[str, Json]:
    return {
        "r": lora.rank,
        "lora_alpha": lora.alpha,
        "lora_dropout": 0.0,
        "use_rslora": lora.rslora,
        "target_modules": modules,
        "bias": "none",
        "use_dora": False,
        "fan_in_fan_out": False,
        "init_lora_weights": True,
        "layers_to_transform": None,
        "layers_pattern": None,
        "rank_pattern": {},
        "alpha_pattern": {},
    }


def _renamed(folder: PeftFolder) -> Params:
    params = {}
    for name, tensor in sorted(folder.tensors.items()):
        short = name.removeprefix(OUTER).removesuffix(".weight")
        if f"{OUTER}{short}.weight" != name or not short.endswith(_ENDS):
            message = f"holds {name!r}; expected only base_model.<layer>.lora_A.weight and .lora_B.weight"
            raise folder.refusal("extra_keys", message)
        params[short] = tensor.to(torch.float32)
    return params


def _check_matrices(folder: PeftFolder, params: Params, rank: int) -> None:
    if not params:
        raise folder.refusal("missing_keys", "holds no LoRA matrices; save the adapter again")
    for name, tensor in params.items():
        other = _module(name) + _ENDS[name.endswith(_ENDS[0])]
        if other not in params:
            raise folder.refusal("missing_keys", f"holds {name!r} but not {other!r}; save the adapter again")
        if tensor.dim() != 2:
            raise folder.refusal("wrong_rank", f"{name!r} has {tensor.dim()} axes, expected 2")
        axis = 0 if name.endswith(".lora_A") else 1
        if tensor.shape[axis] != rank:
            message = f"{name!r} has shape {list(tensor.shape)}, expected {rank} on axis {axis}, the r of the settings"
            raise folder.refusal("wrong_shape", message)
