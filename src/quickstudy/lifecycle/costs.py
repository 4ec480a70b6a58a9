"""What adapting, fine-tuning and serving a causal language model take, told by running them on empty tensors.

What is run is what the library runs: the learner's own `adapt`, the module's own forward pass with a cache. So nothing
needs to be known about an architecture, and the figures cannot differ from the code.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from quickstudy.backbones.causal_shapes import META, CausalShapes, FusedAttention
from quickstudy.core.errors import InputError, NotAvailable
from quickstudy.core.inner import InnerLoop
from quickstudy.core.memory_watch import MemoryWatch
from quickstudy.core.optimisers import Adam
from quickstudy.core.types import Params
from quickstudy.deltas.base import Delta
from quickstudy.learners.losses import weighted_loss
from quickstudy.learners.network import Network
from quickstudy.learners.optimisation.maml import MAML

STEPS = 2
"""Steps that are run: what they hold does not grow after the second one."""


@dataclass(frozen=True)
class Rows:
    """What is computed at once.

    Attributes:
        count: rows, an example each.
        tokens: of each, prompt and completion.
        asked: those of the completion.
    """

    count: int
    tokens: int
    asked: int


@dataclass(frozen=True)
class Cost:
    """Memory in bytes, and work. The parts make up the peak.

    Attributes:
        weights: the base.
        adapter: the tensors that move, if they are not the base's, as often as they are held.
        optimiser: gradients and the two moments of Adam.
        activations: all else that there is at the worst moment.
        operations: floating-point operations of the products of a step.
        moved: bytes that the other operations of a step read and write.
    """

    weights: int
    adapter: int
    optimiser: int
    activations: int
    operations: int
    moved: int

    @property
    def peak(self) -> int:
        """The most memory at a time."""
        return self.weights + self.adapter + self.optimiser + self.activations


def adaptation(shapes: CausalShapes, delta: Delta, rows: Rows) -> Cost:
    """Steps of Adam on the tensors of `delta` with the gradient of all `rows` together, by `MAML.adapt`.

    Raises:
        InputError: the model takes fewer tokens.
        NotAvailable: the model computes by values, which empty tensors do not have.
    """
    batch = shapes.batch(rows.count, rows.tokens, rows.asked)
    network = Network(shapes, delta, device=META)
    learner = MAML(network, InnerLoop(STEPS, Adam(), clip=1.0, order="first"))
    with _watch(shapes) as watch, _by_shapes_alone(shapes):
        start = network.init(torch.Generator())
        learner.adapt(start, batch)
    moving = bytes_of(start.values())
    # The start is kept while its copy moves.
    return _cost(watch, shapes, 2 * moving, 3 * moving, STEPS)


def full_tuning(shapes: CausalShapes, rows: Rows) -> Cost:
    """Steps of torch's AdamW on all weights, in place, with the gradient of all `rows` together.

    Raises:
        InputError: the model takes fewer tokens.
        NotAvailable: the model computes by values, which empty tensors do not have.
    """
    batch = shapes.batch(rows.count, rows.tokens, rows.asked)
    module = shapes.module().requires_grad_(True)
    optimiser = torch.optim.AdamW(module.parameters())
    with _watch(shapes) as watch, _by_shapes_alone(shapes):
        for _ in range(STEPS):
            optimiser.zero_grad()
            weighted_loss(module(batch.inputs), batch).backward()  # type: ignore[no-untyped-call] # torch's own
            optimiser.step()
    return _cost(watch, shapes, 0, 3 * bytes_of(module.parameters()), STEPS)


def serving(shapes: CausalShapes, delta: Delta, rows: Rows, adapters: int) -> Cost:
    """The base with so many adapters in memory, writing `rows`, each with an adapter of its own.

    Each prompt and what is written after it are as long as a row; keys and values of it are kept. Work is that of the
    prompts.

    Raises:
        InputError: the model takes fewer tokens.
        NotAvailable: the model computes by values, which empty tensors do not have.
    """
    inputs = shapes.begin(rows.count, rows.tokens - 1)
    network = Network(shapes, delta, device=META)
    held = adapter_of(shapes, delta)
    one = bytes_of(held.values())
    stored = torch.empty(adapters * one, dtype=torch.uint8, device=META)
    with torch.no_grad(), FusedAttention(), _watch(shapes).hold([stored]) as watch, _by_shapes_alone(shapes):
        of_rows = {name: torch.stack([tensor] * rows.count) for name, tensor in held.items()}
        cache = shapes.new_cache()
        token = network.features(of_rows, inputs, cache).argmax(-1)
        work = watch.operations, watch.moved
        network.features(of_rows, shapes.after(inputs, token), cache)
    found = _cost(watch, shapes, (adapters + rows.count) * one, 0, 1)
    return Cost(found.weights, found.adapter, 0, found.activations, *work)


def adapter_of(shapes: CausalShapes, delta: Delta) -> Params:
    """The tensors of an adapter, by the names that they have in its file.

    Raises:
        InputError: the delta does not fit the model; the message says what would.
        NotAvailable: the model computes by values, which empty tensors do not have.
    """
    with _by_shapes_alone(shapes):
        return Network(shapes, delta, device=META).init(torch.Generator())


def bytes_of(tensors: Iterable[Tensor]) -> int:
    """What they take together."""
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def _watch(shapes: CausalShapes) -> MemoryWatch:
    return MemoryWatch().hold(shapes.weights())


def _cost(watch: MemoryWatch, shapes: CausalShapes, adapter: int, optimiser: int, steps: int) -> Cost:
    weights = bytes_of(shapes.weights())
    rest = watch.peak - weights - adapter - optimiser
    return Cost(weights, adapter, optimiser, rest, watch.operations // steps, watch.moved // steps)


@contextmanager
def _by_shapes_alone(shapes: CausalShapes) -> Iterator[None]:
    try:
        yield
    except ValueError as error:
        raise InputError(str(error)) from error
    except RuntimeError as error:
        raise NotAvailable(
            f"{shapes.name}: what this takes cannot be told beforehand, for a model of type "
            f"{shapes.model.config.model_type!r} does not run on empty tensors ({str(error).splitlines()[0]}); run it "
            "on few examples and look"
        ) from error
