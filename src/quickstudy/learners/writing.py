"""Texts written, or chosen among given ones, by a language model with an adapter, whatever the learner."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor

from quickstudy.backbones.generation import Run, generate
from quickstudy.backbones.language_model import LanguageModel
from quickstudy.core.errors import InputError
from quickstudy.core.types import Adapter, Params
from quickstudy.learners.base import Learner
from quickstudy.learners.language_rows import Rows, rows_of


class Prompting(Learner):
    """A learner whose adapters change what the network reads, not what it is."""

    @abstractmethod
    def continued(self, params: Params, adapter: Adapter, rows: Rows) -> tuple[Params, Rows]:
        """The parameters and inputs, as `generate` takes them, that the network is run with to write after `rows`."""


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
    model, run = _model(learner)
    inputs = model.begin(prompts)
    if isinstance(learner, Prompting):
        with torch.no_grad():
            params, inputs = learner.continued(params, adapter, inputs)
    else:
        params = {**params, **adapter.tensors}
    return generate(model, run, params, inputs, most, temperature, generator)


@torch.no_grad()
def log_probabilities(
    learner: Learner, params: Params, adapter: Adapter, prompts: Sequence[str], completions: Sequence[str]
) -> Tensor:
    """[pair]: the logarithm of the probability that the model with the adapter gives to each completion and its end
    after its prompt; on a backbone with `objective="channel"` to each prompt and its end after its completion.

    Args:
        learner: on a network whose backbone is a language model.
        params: its meta-parameters.
        adapter: of the task.
        prompts: texts.
        completions: as many.

    Raises:
        InputError: the learner has no language model, or as in the `batch` of its backbone.
    """
    batch = _model(learner)[0].batch(prompts, completions)
    logits = learner.predict(params, adapter, batch.inputs).mean.float()
    found = torch.log_softmax(logits, -1).gather(-1, batch.targets[..., None])[..., 0]
    return torch.where(rows_of(batch.inputs)["asked"] > 0, found, 0.0).sum(-1)


def choose(
    learner: Learner, params: Params, adapter: Adapter, prompts: Sequence[str], candidates: Sequence[str]
) -> list[str]:
    """For each prompt the candidate that goes with it most probably, by `log_probabilities`.

    The first of `candidates` is taken where several are equal. Direct probabilities are of whole texts, so that of two
    equally fitting candidates the shorter one mostly wins; by the channel, candidates may differ in length.

    Args:
        learner: on a network whose backbone is a language model.
        params: its meta-parameters.
        adapter: of the task.
        prompts: texts.
        candidates: completions, the same for each prompt.

    Raises:
        InputError: there are no candidates, or as in `log_probabilities`.
    """
    if not candidates:
        raise InputError("no candidates were given; expected at least one")
    found = []
    for prompt in prompts:
        pairs = [prompt] * len(candidates), candidates
        found.append(candidates[int(log_probabilities(learner, params, adapter, *pairs).argmax())])
    return found


def _model(learner: Learner) -> tuple[LanguageModel, Run]:
    """The language model, and what computes logits with it and the delta."""
    network = getattr(learner, "network", None)
    if network is None or not isinstance(network.backbone, LanguageModel):
        raise InputError(f"{learner.name!r} has no language model to write with; give its network one")
    return network.backbone, network.features
