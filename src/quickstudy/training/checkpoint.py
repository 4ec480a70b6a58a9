"""Checkpoints: `last.safetensors` holds all that a run needs to go on, `best.safetensors` the best parameters alone.

Each is one file, tensors and JSON together (the JSON in the header), so it is replaced whole or not at all.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from quickstudy.core.errors import FileRefused
from quickstudy.core.files import check_schema, check_template, parse_json, read_tensors_and_metadata, write_tensors
from quickstudy.core.types import Json, Params
from quickstudy.training.state import Position, State, is_moved, moments, restore_moments
from quickstudy.version import VERSION

SCHEMA = 1
LAST = "last.safetensors"
BEST = "best.safetensors"


@dataclass(frozen=True)
class Kept:
    """What a checkpoint holds besides tensors.

    Attributes:
        position: where the run is.
        metrics_bytes: length of the metrics file at that position.
        choices: which mode "auto" chose for which shapes.
        description: what the run is; see `description.described`.
    """

    position: Position
    metrics_bytes: int
    choices: Mapping[str, str]
    description: Mapping[str, str]


def write_checkpoint(folder: Path, state: State, kept: Kept) -> None:
    """Replaces `last.safetensors`.

    Raises:
        InputError: no space or permission; the checkpoint before is still there.
    """
    facts = {"schema_version": SCHEMA, "quickstudy": VERSION, **asdict(kept)}
    groups = {"params": state.params, "optimiser": moments(state), "best": state.best}
    tensors = {f"{group}/{name}": tensor for group, part in groups.items() for name, tensor in part.items()}
    write_tensors(folder / LAST, tensors, {"run": json.dumps(facts, allow_nan=False)})


def write_best(folder: Path, params: Params) -> None:
    """Replaces `best.safetensors`."""
    write_tensors(folder / BEST, params)


def read_kept(folder: Path) -> tuple[dict[str, Tensor], Kept]:
    """The tensors and the facts of `last.safetensors`, not yet compared with any run.

    Raises:
        FileRefused: the file is not there or not a checkpoint.
    """
    path = folder / LAST
    tensors, metadata = read_tensors_and_metadata(path)
    if "run" not in metadata:
        raise FileRefused(path, "missing_keys", "is not a checkpoint: the header lacks 'run'; give the run's folder")
    facts = parse_json(path, metadata["run"])
    if not isinstance(facts, dict):
        raise FileRefused(path, "not_json", "the header's 'run' is no object; give the run's folder")
    check_schema(path, facts.get("schema_version"), SCHEMA)
    return tensors, _kept(path, facts)


def restored(folder: Path, fresh: State, tensors: Mapping[str, Tensor], kept: Kept) -> State:
    """`fresh` with the values and the position of the checkpoint; its tensors are overwritten.

    Raises:
        FileRefused: names, shapes or types are not those of `fresh`.
    """
    path = folder / LAST
    check_template(path, tensors, _template(fresh, kept.position))
    for name, tensor in fresh.params.items():
        tensor.copy_(tensors[f"params/{name}"])
    restore_moments(fresh, _group(tensors, "optimiser"))
    best = {name: tensor.to(fresh.params[name].device) for name, tensor in _group(tensors, "best").items()}
    return replace(fresh, best=best, position=kept.position)


def _kept(path: Path, facts: Json) -> Kept:
    try:
        position = Position(**facts["position"])
        return Kept(position, int(facts["metrics_bytes"]), dict(facts["choices"]), dict(facts["description"]))
    except (KeyError, TypeError, ValueError) as error:
        raise FileRefused(path, "missing_keys", f"is not a whole checkpoint: {error!r}; start the run anew") from error


def _template(state: State, position: Position) -> Params:
    template = {f"params/{name}": tensor for name, tensor in state.params.items()}
    if position.best_loss is not None:
        template |= {f"best/{name}": tensor for name, tensor in state.params.items()}
    if not position.step:
        return template
    count = torch.empty((), dtype=torch.float64 if torch.get_default_dtype() == torch.float64 else torch.float32)
    for name, tensor in state.params.items():
        if is_moved(name, tensor):
            kinds = {"step": count, "exp_avg": tensor, "exp_avg_sq": tensor}
            template |= {f"optimiser/{name}/{moment}": like for moment, like in kinds.items()}
    return template


def _group(tensors: Mapping[str, Tensor], group: str) -> dict[str, Tensor]:
    prefix = f"{group}/"
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
