"""What adapting, tuning and serving a language model take, told before anything is loaded, and whether that fits."""

from __future__ import annotations

import json
import platform
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import TypeAlias

import torch

from quickstudy.backbones.causal_shapes import CausalShapes
from quickstudy.backbones.precision import DTYPES
from quickstudy.core.errors import InputError
from quickstudy.core.types import Json, Params
from quickstudy.deltas.base import Delta
from quickstudy.deltas.lora import LoRA
from quickstudy.deltas.prefix import Prefix
from quickstudy.deltas.prompt import Prompt
from quickstudy.lifecycle.costs import Cost, Rows, adaptation, adapter_of, full_tuning, serving
from quickstudy.lifecycle.doctor import memory_mib
from quickstudy.lifecycle.writing_methods import WRITING

LIBRARIES = 400 << 20
"""Bytes that Python, torch and transformers take before a base is loaded; measured, on a CPU."""

CONTEXT_OF_GPU = 600 << 20
"""Bytes that a CUDA context with its libraries takes on a GPU, about."""

LARGEST = 2048
"""Most rows and columns of the product whose speed is measured."""

Making: TypeAlias = Callable[[int, tuple[str, ...]], Delta]

DELTAS: Mapping[str, Making] = MappingProxyType(
    {
        "lora": lambda rank, targets: LoRA(rank, 2 * rank, targets),
        "prompt": lambda tokens, _: Prompt(tokens),
        "prefix": lambda tokens, _: Prefix(tokens),
    }
)
"""Name -> delta of a rank, or a number of tokens, and the layers that matrices stand beside."""


@dataclass(frozen=True)
class Plan:
    """What is asked about.

    Attributes:
        base: as the name of `CausalShapes`.
        delta: row of `DELTAS`.
        rank: of LoRA; the tokens of a prompt or prefix.
        targets: ends of the names of the layers that LoRA stands beside; empty for all linear ones, as `adapt` does.
        dtype: of the weights.
        examples: of a task.
        context: tokens of an example, prompt and completion.
        completion: those of the completion; 0 for half of them.
        batch: rows computed together; 0 for all examples, as learners do.
        steps: gradient steps; 0 for as many as `adapt` makes.
        adapters: in memory while serving.
        recompute: keep what each layer is given only, and compute the rest again in the backward.
    """

    base: str
    delta: str = "lora"
    rank: int = 8
    targets: tuple[str, ...] = ()
    dtype: str = "float32"
    examples: int = 10
    context: int = 512
    completion: int = 0
    batch: int = 0
    steps: int = 0
    adapters: int = 1
    recompute: bool = False

    def __post_init__(self) -> None:
        if self.delta not in DELTAS:
            raise InputError(f"there is no delta {self.delta!r} to estimate; give one of {', '.join(DELTAS)}")
        lowest = {"rank": 1, "examples": 1, "context": 2, "completion": 0, "batch": 0, "steps": 0, "adapters": 1}
        for name, least in lowest.items():
            if (value := getattr(self, name)) < least:
                raise InputError(f"{name} is {value}; give {least} or more")

    @property
    def rows(self) -> Rows:
        """What is computed together."""
        return Rows(self.batch or self.examples, self.context, self.completion or self.context // 2)


@dataclass(frozen=True)
class Speeds:
    """How fast a device computes; measured.

    Attributes:
        operations: of a product, a second.
        moved: bytes that a sum of two large tensors reads and writes, a second.
    """

    operations: float
    moved: float


@dataclass(frozen=True)
class Machine:
    """What there is.

    Attributes:
        memory: bytes that this process may use.
        gpu: bytes of the GPU's memory; None where there is none.
        allocator: "glibc" where large tensors stay in the heap of the C library when they go.
    """

    memory: int | None
    gpu: int | None
    allocator: str


def this_machine() -> Machine:
    """What there is here."""
    gpu = torch.cuda.get_device_properties(0).total_memory if torch.cuda.is_available() else None
    return Machine(_memory(), gpu, platform.libc_ver()[0])


def estimate(plan: Plan, machine: Machine | None = None, time_too: bool = True) -> Json:
    """The report, as JSON; sizes in bytes.

    `adaptation`, `full_tuning` and `serving` hold the parts of the peak, the peak itself, `heap_peak`, about the most
    that it becomes where the allocator keeps what is freed, and whether it fits; the first two also `seconds`.

    Args:
        plan: what is asked about.
        machine: what there is; None for this one.
        time_too: whether to measure how fast this machine is, in about a second.

    Raises:
        InputError: the base is no causal language model, takes fewer tokens, or has no such layers.
        NotAvailable: there is no configuration of the base, or its memory depends on values.
    """
    machine = machine or this_machine()
    shapes = CausalShapes(plan.base, plan.dtype, plan.recompute)
    _check_targets(plan.targets, shapes)
    plan = replace(plan, targets=plan.targets or shapes.linears)
    delta = DELTAS[plan.delta](plan.rank, plan.targets)
    rows, steps = plan.rows, plan.steps or WRITING["lora"].steps
    moving = adapter_of(shapes, delta)
    speeds = _speeds(shapes, rows) if time_too else None
    often = steps * plan.examples / rows.count
    return {
        **asdict(plan),
        "completion": rows.asked,
        "batch": rows.count,
        "steps": steps,
        "targets": list(plan.targets) if plan.delta == "lora" else [],
        "parameters": shapes.parameters,
        "moving_parameters": sum(tensor.numel() for tensor in moving.values()),
        "adapter_file": file_bytes(moving),
        "libraries": LIBRARIES,
        "machine": asdict(machine),
        "adaptation": _described(adaptation(shapes, delta, rows), machine, speeds, often),
        "full_tuning": _described(full_tuning(shapes, rows), machine, speeds, often),
        "serving": _described(serving(shapes, delta, rows, plan.adapters), machine, None, 0),
    }


def file_bytes(tensors: Params) -> int:
    """The size of a safetensors file of float32 `tensors`."""
    header: dict[str, Json] = {}
    end = 0
    for name, tensor in tensors.items():
        begin, end = end, end + 4 * tensor.numel()
        header[name] = {"dtype": "F32", "shape": list(tensor.shape), "data_offsets": [begin, end]}
    length = len(json.dumps(header, separators=(",", ":")))
    return 8 + -(-length // 8) * 8 + end


def _described(cost: Cost, machine: Machine, speeds: Speeds | None, often: float) -> Json:
    heap = cost.peak + (cost.activations if machine.allocator == "glibc" else 0)
    found = {
        "weights": cost.weights,
        "adapter": cost.adapter,
        "optimiser": cost.optimiser,
        "activations": cost.activations,
        "peak": cost.peak,
        "heap_peak": heap,
        "fits": _fits(cost.peak + LIBRARIES, machine.memory),
        "fits_heap": _fits(heap + LIBRARIES, machine.memory),
        "fits_gpu": _fits(cost.peak + CONTEXT_OF_GPU, machine.gpu),
    }
    if speeds is None:
        return {**found, "seconds": None}
    step = cost.operations / speeds.operations + cost.moved / speeds.moved
    return {**found, "seconds": step * often}


def _fits(needed: int, there: int | None) -> bool | None:
    return None if there is None else needed <= there


def _memory() -> int | None:
    """The machine's, or the limit that a container sets."""
    physical = memory_mib()
    limit = Path("/sys/fs/cgroup/memory.max")
    word = limit.read_text().strip() if limit.is_file() else "max"
    known = [*([] if physical is None else [physical << 20]), *([int(word)] if word.isdigit() else [])]
    return min(known, default=None)


def _check_targets(targets: tuple[str, ...], shapes: CausalShapes) -> None:
    """LoRA's own message names the layers one by one, which are hundreds."""
    linears = shapes.linears
    unknown = [target for target in targets if target.rpartition(".")[2] not in linears]
    if unknown:
        raise InputError(f"{shapes.name}: there is no linear layer {unknown[0]!r}; there are {', '.join(linears)}")


def _speeds(shapes: CausalShapes, rows: Rows) -> Speeds:
    """On the GPU where there is one."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    width = shapes.model.get_output_embeddings().in_features
    tokens, inputs, outputs = (min(size, LARGEST) for size in (rows.count * rows.tokens, width, 3 * width))
    dtype = DTYPES[shapes.dtype]
    left, right = (torch.ones(size, inputs, dtype=dtype, device=device) for size in (tokens, outputs))
    product = _fastest(lambda: torch.nn.functional.linear(left, right))
    one = torch.ones(1 << 22, device=device)
    total = _fastest(lambda: one + one)
    return Speeds(2 * tokens * inputs * outputs / product, 3 * one.nbytes / total)


def _fastest(run: Callable[[], torch.Tensor]) -> float:
    """Seconds of the fastest of a few runs."""
    best = float("inf")
    for _ in range(5):
        began = time.perf_counter()
        run().flatten()[0].item()
        best = min(best, time.perf_counter() - began)
    return best
