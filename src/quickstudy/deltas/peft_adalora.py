"""AdaLoRA in PEFT's files, whose lora_A, lora_E and lora_B are Q, lambda and P here."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn import functional as F

from quickstudy.core.types import Json, Params
from quickstudy.deltas.adalora import AdaLoRA, without_pruned
from quickstudy.deltas.peft_folder import OUTER, UNSUPPORTED, PeftFolder, is_number
from quickstudy.deltas.peft_lora import PLAIN
from quickstudy.deltas.rank_budget import RankBudget, layers_of

_ENDS = (".lora_A", ".lora_B", ".lora_E")
_PLAIN = {name: values for name, values in PLAIN.items() if name != "rank_pattern"}


def adalora_files(delta: AdaLoRA, params: Mapping[str, Tensor]) -> tuple[dict[str, Json], Params]:
    """The entries of the configuration that are AdaLoRA's own, and the tensors by PEFT's names, without pruned ranks.

    Raises:
        ValueError: `params` are not P, lambda and Q of layers, have more ranks than `delta`, or are all pruned; or
            alpha is not above 0, which PEFT takes for something else.
    """
    if delta.alpha <= 0:
        raise ValueError(f"alpha is {delta.alpha}; PEFT reads AdaLoRA with an alpha above 0 only")
    small = without_pruned(dict(params))
    if not small:
        raise ValueError("every rank is pruned, so there is nothing to write; adapt before this, with a larger budget")
    pattern, tensors = {}, {}
    for layer in layers_of(small):
        if not layer.startswith("model."):
            raise ValueError(f"{layer!r} is not the name of a layer of a model; expected model.<layer>")
        values = small[f"{layer}.lora_lambda"]
        if len(values) > delta.rank:
            raise ValueError(f"{layer} has {len(values)} ranks; expected at most {delta.rank}")
        pattern[f"{layer.removeprefix('model.')}.lora_E"] = [number < len(values) for number in range(delta.rank)]
        tensors[f"{OUTER}{layer}.lora_A"] = small[f"{layer}.lora_Q"]
        tensors[f"{OUTER}{layer}.lora_B"] = small[f"{layer}.lora_P"]
        tensors[f"{OUTER}{layer}.lora_E"] = values[:, None]
    mean = sum(sum(kept) for kept in pattern.values()) / len(pattern)
    config = {
        "init_r": delta.rank,
        "target_r": round(mean),
        "lora_alpha": delta.alpha,
        "lora_dropout": 0.0,
        "tinit": 0,
        "tfinal": 0,
        "total_step": 1,
        "rank_pattern": pattern,
        "target_modules": sorted(name.removesuffix(".lora_E") for name in pattern),
        "bias": "none",
        "fan_in_fan_out": False,
        "init_lora_weights": True,
    }
    return config, tensors


def read_adalora(folder: PeftFolder) -> tuple[AdaLoRA, Params]:
    """The delta, whose targets are the full names of the layers, and its float32 tensors, with zeros for pruned ranks.

    Raises:
        FileRefused: the folder is not plain AdaLoRA; tensors are missing, of another kind or of the wrong shape.
    """
    folder.require(_PLAIN)
    rank, alpha = folder.whole_number("init_r"), folder.config.get("lora_alpha")
    if not is_number(alpha) or alpha <= 0:
        raise folder.refusal(UNSUPPORTED, f"has lora_alpha = {alpha!r}; expected a number above 0")
    layers = _layers(folder)
    params: Params = {}
    for layer in layers:
        a, b, e = (folder.tensors[f"{OUTER}{layer}{end}"].to(torch.float32) for end in _ENDS)
        _check_shapes(folder, layer, (a, b, e), rank)
        missing = rank - len(a)
        params[f"{layer}.lora_P"] = F.pad(b, (0, missing))
        params[f"{layer}.lora_lambda"] = F.pad(e[:, 0], (0, missing))
        params[f"{layer}.lora_Q"] = F.pad(a, (0, 0, 0, missing))
    mean = sum(len(folder.tensors[f"{OUTER}{layer}.lora_E"]) for layer in layers) / len(layers)
    targets = tuple(layer.removeprefix("model.") for layer in layers)
    return AdaLoRA(rank, alpha, targets, budget=RankBudget(mean)), params


def _layers(folder: PeftFolder) -> list[str]:
    layers = sorted({name.removeprefix(OUTER).rpartition(".")[0] for name in folder.tensors})
    wanted = {f"{OUTER}{layer}{end}" for layer in layers for end in _ENDS}
    if extra := sorted(folder.tensors.keys() - wanted):
        message = f"holds {extra[0]!r}; expected only base_model.<layer>.lora_A, .lora_B and .lora_E"
        raise folder.refusal("extra_keys", message)
    if missing := sorted(wanted - folder.tensors.keys()) or ([] if layers else ["lora_A"]):
        raise folder.refusal("missing_keys", f"lacks {missing[0]!r}; save the adapter again")
    return layers


def _check_shapes(folder: PeftFolder, layer: str, tensors: tuple[Tensor, Tensor, Tensor], rank: int) -> None:
    a, b, e = tensors
    if not a.dim() == b.dim() == e.dim() == 2:
        raise folder.refusal("wrong_rank", f"a tensor of {layer!r} has other than 2 axes")
    found = a.shape[0], b.shape[1], e.shape[0]
    if len(set(found)) > 1 or found[0] > rank or e.shape[1] != 1:
        message = f"{layer!r} has ranks {found} in lora_A, lora_B and lora_E; expected one, at most init_r = {rank}"
        raise folder.refusal("wrong_shape", message)
    patterns = folder.config.get("rank_pattern") or {}
    kept = patterns.get(f"{layer.removeprefix('model.')}.lora_E", [True] * rank) if isinstance(patterns, dict) else None
    if not isinstance(kept, list) or len(kept) != rank or kept.count(True) != found[0]:
        message = f"{layer!r} has {found[0]} ranks, and rank_pattern says {kept!r}; save the adapter again"
        raise folder.refusal("wrong_shape", message)
