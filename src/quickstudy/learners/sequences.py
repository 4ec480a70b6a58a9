"""What learners that read a support set row by row share: rows of a sequence, its answers, and tasks as the batch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import torch
from torch import Tensor
from torch.nn import functional
from torch.utils._pytree import tree_flatten, tree_unflatten

from quickstudy.backbones.memory import Cell, State, unroll
from quickstudy.core.errors import TaskError
from quickstudy.core.transforms import maps_any
from quickstudy.core.types import Adapter, Batch, Episode, Inputs, Params
from quickstudy.learners.heads import one_hot
from quickstudy.learners.losses import blank, weighted_mean
from quickstudy.learners.network import Network

Sequences: TypeAlias = Callable[[Params, Params], Params]
"""`(params, named tensors [task, ...]) -> named tensors [task, ...]`."""


def features_of(network: Network | None, params: Params, inputs: Inputs) -> Tensor:
    """[example, feature]: what the network makes of the inputs; without one the inputs themselves, flattened.

    Raises:
        TaskError: named inputs and no network.
    """
    if network is not None:
        return network.features(params, inputs)
    if isinstance(inputs, dict):
        raise TaskError(f"the inputs are named, {sorted(inputs)}; give the learner a network that reads them")
    return inputs.flatten(1)


def shown_targets(batch: Batch, outputs: int) -> Tensor:
    """[example, output]: targets as numbers in a row: 1 at the class, or the target itself.

    Raises:
        TaskError: more classes, or another number of targets, than there are outputs.
    """
    if not batch.ways:
        if batch.targets.shape[-1] != outputs:
            raise TaskError(
                f"targets are {batch.targets.shape[-1]} wide, the cell has {outputs} outputs; make them equal"
            )
        return batch.targets
    if batch.ways > outputs:
        raise TaskError(f"the task has {batch.ways} classes, the cell has {outputs} outputs; give it at least as many")
    return functional.pad(one_hot(batch, batch.weights.dtype), (0, outputs - batch.ways))


def answer_loss(answers: Tensor, batch: Batch, bits: bool) -> Tensor:
    """The weighted mean loss of raw `answers` [example, output], a scalar.

    Cross-entropy of classes; for regression the squared error or, where targets are `bits`, their cross-entropy in
    nats a bit.
    """
    if batch.ways:
        losses = functional.cross_entropy(answers[:, : batch.ways], batch.targets, reduction="none")
    elif bits:
        losses = functional.binary_cross_entropy_with_logits(answers, batch.targets, reduction="none").mean(-1)
    else:
        losses = (answers - batch.targets).square().mean(-1)
    return weighted_mean(losses, batch.weights)


def answer_means(answers: Tensor, ways: int, bits: bool) -> Tensor:
    """Raw answers [example, output] as `Prediction.mean` wants them: logits [example, ways], or probabilities."""
    if ways:
        return answers[:, :ways]
    return answers.sigmoid() if bits else answers


PREFIX = "cell."
"""Where a cell's parameters stand among the meta-parameters."""


def start_of(cell: Cell, network: Network | None, generator: torch.Generator) -> Params:
    """The starting values of a cell, as `cell.<name>`, and of the network, where there is one."""
    params = {} if network is None else network.init(generator)
    return params | {f"{PREFIX}{name}": tensor for name, tensor in cell.init(generator).items()}


def cell_params(params: Params) -> Params:
    """The cell's part of the meta-parameters, by the cell's own names."""
    return {name.removeprefix(PREFIX): tensor for name, tensor in params.items() if name.startswith(PREFIX)}


def write_rows(cell: Cell, network: Network | None, params: Params, support: Batch) -> State:
    """The cell's state, without a batch axis, after the support rows (features, target, 1); weight 0 skips a row.

    Raises:
        TaskError: the task does not fit the cell.
    """
    features = features_of(network, params, support.inputs)
    shown = shown_targets(support, cell.outputs).to(features)
    rows = torch.cat([features, shown, features.new_ones(len(features), 1)], 1)
    check_width(cell, rows)

    def written(own: Params, given: Params) -> Params:
        return unroll(cell, own, given["rows"], real=given["real"])[1]

    return with_tasks_as_batch(written, cell_params(params), {"rows": rows, "real": support.weights > 0})


def read_rows(cell: Cell, network: Network | None, params: Params, state: State, inputs: Inputs) -> Tensor:
    """[example, output]: the cell's answers to the rows (features, 0, 0), one after the other, from `state` on."""
    features = features_of(network, params, inputs)
    rows = functional.pad(features, (0, cell.outputs + 1))
    check_width(cell, rows)

    def answered(own: Params, given: Params) -> Params:
        before = {name: tensor for name, tensor in given.items() if name != "rows"}
        return {"answers": unroll(cell, own, given["rows"], before)[0]}

    return with_tasks_as_batch(answered, cell_params(params), {**state, "rows": rows})["answers"]


def written_loss(cell: Cell, network: Network | None, params: Params, episode: Episode, bits: bool) -> Tensor:
    """The loss on the query, asked row by row after the support is written: a scalar, as `answer_loss` has it."""
    query = blank(episode.query)
    state = write_rows(cell, network, params, blank(episode.support))
    return answer_loss(read_rows(cell, network, params, state, query.inputs), query, bits)


def tell_rows(cell: Cell, network: Network | None, params: Params, support: Batch) -> tuple[Tensor, State]:
    """`(answers [example, output], state)`: each support row is answered before its target is told, one row late.

    The state holds `told` [output] too, the target of the last row. Rows of weight 0 are skipped.

    Raises:
        TaskError: the task does not fit the cell.
    """
    features = features_of(network, params, support.inputs)
    shown = shown_targets(support, cell.outputs).to(features)
    real = support.weights > 0
    numbers = torch.arange(1, len(real) + 1, device=real.device)
    latest = torch.where(real, numbers, 0).cummax(0).values
    targets = torch.cat([shown.new_zeros(1, cell.outputs), shown])
    before = targets[torch.cat([latest.new_zeros(1), latest[:-1]])]
    rows = torch.cat([features, before], 1)
    check_width(cell, rows)

    def told(own: Params, given: Params) -> Params:
        answers, state = unroll(cell, own, given["rows"], real=given["real"])
        return {"answers": answers, **state}

    state = with_tasks_as_batch(told, cell_params(params), {"rows": rows, "real": real})
    return state.pop("answers"), state | {"told": targets[latest[-1]]}


def ask_rows(cell: Cell, network: Network | None, params: Params, state: State, inputs: Inputs) -> Tensor:
    """[example, output]: the cell's answer to each input by one step from the same `state` of `tell_rows`."""
    features = features_of(network, params, inputs)
    rows = torch.cat([features, state["told"].expand(len(features), -1)], 1)
    check_width(cell, rows)

    def asked(own: Params, given: Params) -> Params:
        tasks, count, width = given["rows"].shape
        before = {name: given[name].repeat_interleave(count, 0) for name in state if name != "told"}
        answers, _ = unroll(cell, own, given["rows"].reshape(tasks * count, 1, width), before)
        return {"answers": answers.view(tasks, count, -1)}

    return with_tasks_as_batch(asked, cell_params(params), {**state, "rows": rows})["answers"]


def state_adapter(learner: str, network: Network | None, state: State, ways: int) -> Adapter:
    """`state` as an adapter of `learner` for a task of `ways` classes, bound to the network's base if there is one."""
    base = network.backbone.fingerprint if network else None
    return Adapter(state, learner, base=base, facts={"ways": ways})


def check_width(cell: Cell, rows: Tensor) -> None:
    """Nothing, where the rows [example, input] are as wide as the cell reads.

    Raises:
        TaskError: they are not.
    """
    if rows.shape[-1] != cell.inputs:
        raise TaskError(
            f"a row, features and target together, is {rows.shape[-1]} wide and the cell reads {cell.inputs}; "
            f"make a cell of inputs={rows.shape[-1]}"
        )


def with_tasks_as_batch(function: Sequences, params: Params, rows: Params) -> Params:
    """What `function` gives for one task: `rows` and results are without the task axis.

    Under `torch.vmap` the mapped axis becomes the batch axis of one plain call. A loop over time then runs as quickly
    as if it had been written for a batch: its many small operators are not taken apart one by one.
    """
    leaves, spec = tree_flatten((params, rows))
    if not maps_any(leaves):
        return _alone(function, params, rows)
    names: list[str] = []

    def run(dims: tuple[int | None, ...], size: int, *tensors: Tensor) -> tuple[Tensor, ...]:
        mapped, inner = tree_unflatten(list(dims), spec)
        inside, given = tree_unflatten(list(tensors), spec)
        if any(dim is not None for dim in mapped.values()):
            results = torch.vmap(lambda *each: _alone(function, *each), (mapped, inner))(inside, given)
        else:
            results = function(inside, {name: _first(given[name], inner[name], size) for name in given})
        names[:] = results
        return tuple(results.values())

    found = _TasksAsBatch.apply(run, *leaves)  # type: ignore[no-untyped-call] # untyped in torch
    return dict(zip(names, found, strict=True))


def _alone(function: Sequences, params: Params, rows: Params) -> Params:
    results = function(params, {name: tensor[None] for name, tensor in rows.items()})
    return {name: tensor[0] for name, tensor in results.items()}


def _first(tensor: Tensor, dim: int | None, size: int) -> Tensor:
    """`tensor` with the task on axis 0, repeated where it is the same for all tasks."""
    return tensor.expand(size, *tensor.shape) if dim is None else tensor.movedim(dim, 0)


class _TasksAsBatch(torch.autograd.Function):
    """Its rule for vmap runs plain operators, which autograd then records as ever; nothing else is called."""

    @staticmethod
    def forward(*_: Any, **__: Any) -> Any:
        raise AssertionError("this function is for vmap alone")

    @staticmethod
    def setup_context(*_: Any, **__: Any) -> None:
        raise AssertionError("this function is for vmap alone")

    @staticmethod
    def vmap(info: Any, in_dims: Any, run: Any, *tensors: Tensor) -> Any:
        found = run(in_dims[1:], info.batch_size, *tensors)
        return found, tuple(0 for _ in found)
