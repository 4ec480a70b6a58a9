"""Texts written by a language model with an adapter, whatever the learner."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from quickstudy.backbones.causal_lm import CausalLM
from quickstudy.backbones.generation import begin, generate
from quickstudy.core.errors import InputError
from quickstudy.core.types import Adapter, Params
from quickstudy.learners.base import Learner


def write(
    learner: Learner,
    params: Params,
    adapter: Adapter,
    prompts: Sequence[str],
    most: int = 128,
    temperature: float = 0.0,
    generator: torch.Generator | None = None,
) -> list[str]:
    """What the language model writes after each prompt with the adapter.

    A learner whose adapters are more than tensors in place of the network's has a method `continued(params, adapter,
    inputs)`, which returns the parameters and inputs that the network is run with.

    Args:
        learner: on a network whose backbone is a language model.
        params: its meta-parameters.
        adapter: of the task.
        prompts: texts.
        most: tokens written after each.
        temperature: as in `generate`.
        generator: of the draws.

    Raises:
        InputError: the learner has no language model, or as in `generation.begin`.
        ValueError: as in `generate`.
    """
    network = getattr(learner, "network", None)
    if network is None or not isinstance(network.backbone, CausalLM):
        raise InputError(f"{learner.name!r} has no language model to write with; give its network a CausalLM")
    inputs = begin(network.backbone, prompts)
    continued: Any = getattr(learner, "continued", None)
    if continued is None:
        params = {**params, **adapter.tensors}
    else:
        with torch.no_grad():
            params, inputs = continued(params, adapter, inputs)
    return generate(network.backbone, network.features, params, inputs, most, temperature, generator)
