"""A support set as a function to minimise: of the network's entries, from a start."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch._functorch.pyfunctorch import temporarily_clear_interpreter_stack

from quickstudy.core.errors import TaskError
from quickstudy.core.parameters import from_vector, to_vector
from quickstudy.core.types import Batch, Inputs, Params
from quickstudy.learners.losses import blank, task_outputs, weighted_loss
from quickstudy.learners.network import Network
from quickstudy.tasks.optimisees import DATA, START


@dataclass(frozen=True)
class Optimisee:
    """The loss of a network on a support set, as a function of one vector.

    Attributes:
        network: backbone, delta and head.
        support: inputs are a tensor, or `{"x": ..., "start": [example, entry]}`.
        like: names and shapes of what moves.
    """

    network: Network
    support: Batch
    like: Params

    def start(self) -> Tensor:
        """[entry]: the support's own start, or the values in `like` where it brings none.

        Raises:
            TaskError: the start has another number of entries than the network.
        """
        inputs = self.support.inputs
        if isinstance(inputs, Tensor) or START not in inputs:
            return to_vector(self.like)
        start = inputs[START]
        entries = sum(tensor.numel() for tensor in self.like.values())
        if start.shape[-1] != entries:
            raise TaskError(
                f"the start has {start.shape[-1]} entries, the network {entries}; give both the same widths"
            )
        # All rows hold the same; the largest over the real ones is it to the bit, which their mean is not.
        return start.masked_fill(self.support.weights[:, None] <= 0, -torch.inf).amax(0)

    def value(self, entries: Tensor) -> Tensor:
        """The loss, a scalar, of `entries` [entry]."""
        outputs = task_outputs(self.network, self.params(entries), data(self.support.inputs), self.support.ways)
        return weighted_loss(outputs, self.support)

    def params(self, entries: Tensor) -> Params:
        """`entries` [entry] by the names of the network."""
        return from_vector(entries, self.like)

    def value_and_gradient(self, entries: Tensor, order: Literal["first", "second"] = "first") -> tuple[Tensor, Tensor]:
        """The loss and its gradient [entry].

        Of "first" order, the gradient is held still, and the loss's own derivative is that gradient: one pass gives
        both. Of "second" order both carry their graphs.
        """
        gradient_and_value: Callable[..., tuple[Tensor, Tensor]] = torch.func.grad_and_value(self.value)
        if order == "second":
            gradient, value = gradient_and_value(entries)
            return value, gradient
        with torch.no_grad():
            gradient, value = gradient_and_value(entries)
        return value + (gradient * (entries - entries.detach())).sum(), gradient


def optimisee(network: Network, support: Batch, like: Params) -> Optimisee:
    """The function that `support` defines; rows of weight 0 do not count."""
    return Optimisee(network, blank(support), like)


def starting_values(network: Network) -> Params:
    """What the network draws with seed 0; the same under `torch.vmap`."""
    with temporarily_clear_interpreter_stack():
        return network.init(torch.Generator(device="cpu").manual_seed(0))


def data(inputs: Inputs) -> Inputs:
    """What the network reads."""
    if isinstance(inputs, dict) and DATA in inputs:
        return inputs[DATA]
    return inputs
