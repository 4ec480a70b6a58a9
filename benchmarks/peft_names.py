"""What moves in a PEFT model, by our names."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from torch import nn


def peft_parameters(model: Any, names: Iterable[str]) -> dict[str, nn.Parameter]:
    """Our names of LoRA matrices -> the parameters of the PEFT model; all of those that move must be among them."""
    named = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    found = {name: named.pop(_peft_name(name)) for name in names}
    assert not named, f"PEFT moves more than ours: {sorted(named)}"
    return found


def _peft_name(name: str) -> str:
    return name.replace("body.model.", "base_model.model.") + ".default.weight"
