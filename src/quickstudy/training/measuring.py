"""Loss and gradient of a step's tasks, and the loss on held-out tasks; what is not finite is told by step and task."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.utils import get_total_norm
from torch.utils._pytree import tree_map

from quickstudy.core.errors import Diverged
from quickstudy.core.stacking import of_equal_ways
from quickstudy.core.types import Episode, Params
from quickstudy.core.vectorise import Choices, mean_loss_and_gradients, over_tasks
from quickstudy.training.episodes import seed_for
from quickstudy.training.options import FitOptions, Precision


@dataclass(frozen=True)
class Measuring:
    """How losses are computed in one run.

    Attributes:
        loss: of one episode.
        options: those of the run.
        device: where the parameters lie; episodes are brought there.
        choices: which mode "auto" chose for which shapes.
    """

    loss: Callable[[Params, Episode], Tensor]
    options: FitOptions
    device: torch.device
    choices: Choices

    @property
    def part(self) -> int:
        """Tasks that are run at a time."""
        return self.options.tasks_per_step // self.options.accumulate

    def there(self, episodes: Sequence[Episode]) -> list[Episode]:
        """The episodes on the device, all of as many ways."""
        return [tree_map(lambda leaf: leaf.to(self.device), each) for each in of_equal_ways(episodes)]


def gradients_of(
    measuring: Measuring, params: Params, step: int, parts: Sequence[Sequence[Episode]]
) -> tuple[float, Params, float]:
    """Mean loss of all tasks, the gradient of it, and the norm of that gradient before clipping to `options.clip`.

    Raises:
        Diverged: a loss or the gradient is not finite.
    """
    options, losses = measuring.options, []
    total: Params = {}
    for number, episodes in enumerate(parts):
        torch.manual_seed(seed_for(options.seed, "noise", step * options.accumulate + number))
        found, gradients = mean_loss_and_gradients(
            measuring.loss, params, measuring.there(episodes), options.mode, options.chunk, measuring.choices
        )
        losses += _finite(found, episodes, step)
        for name, gradient in gradients.items():
            share = gradient / len(parts)
            total[name] = total[name].add_(share) if name in total else share
    norm = float(get_total_norm(list(total.values())))
    if not math.isfinite(norm):
        everything = [episode for episodes in parts for episode in episodes]
        raise Diverged(step, _culprit(measuring, params, everything), norm)
    if options.clip is not None and norm > options.clip:
        total = {name: gradient * (options.clip / norm) for name, gradient in total.items()}
    return math.fsum(losses) / len(losses), total, norm


def held_out_loss(measuring: Measuring, params: Params, step: int, episodes: Sequence[Episode]) -> float:
    """Mean loss over `episodes`, with the same draws each time.

    Raises:
        Diverged: a loss is not finite.
    """
    options, losses = measuring.options, []
    torch.manual_seed(seed_for(options.seed, "validation noise", 0))
    run = over_tasks(measuring.loss, options.mode, options.chunk, measuring.choices)
    with torch.no_grad():
        for first in range(0, len(episodes), measuring.part):
            some = episodes[first : first + measuring.part]
            losses += _finite(run(params, measuring.there(some)), some, step)
    return math.fsum(losses) / len(losses)


def in_precision(
    loss: Callable[[Params, Episode], Tensor], precision: Precision, device: torch.device
) -> Callable[[Params, Episode], Tensor]:
    """`loss` under autocast where `precision` is "bfloat16".

    Casts are not cached: inside a differentiable inner loop a cached one would belong to another graph.
    """
    if precision == "float32":
        return loss

    def under_autocast(params: Params, episode: Episode) -> Tensor:
        with torch.autocast(device.type, torch.bfloat16, cache_enabled=False):
            return loss(params, episode).float()

    return under_autocast


def _finite(losses: Tensor, episodes: Sequence[Episode], step: int) -> list[float]:
    values: list[float] = losses.detach().double().tolist()
    for value, episode in zip(values, episodes, strict=True):
        if not math.isfinite(value):
            raise Diverged(step, episode.task, value)
    return values


def _culprit(measuring: Measuring, params: Params, episodes: Sequence[Episode]) -> str:
    """The first task whose own gradient is not finite; all of them where each is finite alone."""
    for episode in episodes:
        _, gradients = mean_loss_and_gradients(measuring.loss, params, measuring.there([episode]), "loop")
        if not math.isfinite(float(get_total_norm(list(gradients.values())))):
            return episode.task
    return ", ".join(episode.task for episode in episodes)
