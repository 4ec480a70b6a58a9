"""Texts written by a language model with an adapter, whatever the learner."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence

import torch

from quickstudy.backbones.generation import generate
from quickstudy.backbones.language_model import LanguageModel
from quickstudy.core.errors import InputError
from quickstudy.core.types import Adapter, Params
from quickstudy.learners.base import Learner
from quickstudy.learners.language_rows import Rows


class Prompting(Learner):
    """A learner whose adapters change what the network reads, not what it is."""

    @abstractmethod
    def continued(self, params: Params, adapter: Adapter, rows: Rows) -> tuple[Params, Rows]:
        """The parameters and inputs that the network is run with to write after `rows`."""


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

    Args:
        learner: on a network whose backbone is a language model.
        params: its meta-parameters.
        adapter: of the task.
        prompts: texts.
        most: tokens written after each.
        temperature: as in `generate`.
        generator: of the draws.

    Raises:
        InputError: the learner has no language model, or as in the `begin` of its backbone.
        ValueError: as in `generate`.
    """
    network = getattr(learner, "network", None)
    if network is None or not isinstance(network.backbone, LanguageModel):
        raise InputError(f"{learner.name!r} has no language model to write with; give its network one")
    inputs = network.backbone.begin(prompts)
    if isinstance(learner, Prompting):
        with torch.no_grad():
            params, inputs = learner.continued(params, adapter, inputs)
    else:
        params = {**params, **adapter.tensors}
    return generate(network.backbone, network.features, params, inputs, most, temperature, generator)
