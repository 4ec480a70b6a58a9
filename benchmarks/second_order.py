"""Second-order MAML: meta-iterations a second, and peak memory, beside higher and torchopt.

All sides compute the loss on the query after some steps of gradient descent, and the gradient of its mean over tasks
through these steps (Finn et al., 2017, arXiv 1703.03400): on sine waves with a network of two layers of 40, and on
images of Omniglot's size, drawn at random, with the four convolutions of that paper. The peers run one task after the
other, as their own examples do. Losses and gradients are compared.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import higher
import torch
import torchopt
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, mse_loss
from torch.utils._pytree import tree_map

from quickstudy import Batch, Episode, Network
from quickstudy.backbones.conv4 import Conv4
from quickstudy.backbones.mlp import MLP
from quickstudy.core.inner import InnerLoop
from quickstudy.core.optimisers import SGD
from quickstudy.core.stacking import stack_episodes, unstack
from quickstudy.core.types import Params
from quickstudy.core.vectorise import Mode, mean_loss_and_gradients
from quickstudy.deltas import Full
from quickstudy.learners.optimisation.maml import MAML
from quickstudy.tasks.sinusoids import Sinusoids
from report import Options, Row, main
from stopwatch import medians

Result = tuple[Tensor, Params]
"""Losses [task] and the gradient of their mean."""

MODES: dict[str, tuple[Mode, int]] = {
    "vmap": ("vmap", 8),
    "chunks": ("chunks", 8),
    "loop": ("loop", 8),
    "threads, one by one": ("threads", 1),
    "threads, by vmap": ("threads", 50),
}
"""Name -> mode, and tasks at a time."""
PEERS = ("higher", "torchopt")


@dataclass(frozen=True)
class Case:
    """What one meta-iteration is.

    Attributes:
        name: for the table.
        ways: classes, one example of each to learn from and one to ask for; 0 for sine waves of ten points.
        tasks: in one meta-iteration.
        steps: of the inner loop.
        rate: of the inner loop.
        target: which ratio is to be reached.
    """

    name: str
    ways: int
    tasks: int
    steps: int
    rate: float
    target: str = ""

    @property
    def learner(self) -> MAML:
        """Ours."""
        backbone = Conv4(shrink="stride", readout="mean") if self.ways else MLP((1, 40, 40))
        return MAML(Network(backbone, Full(), self.ways or 1), InnerLoop(self.steps, SGD(self.rate)))

    def episodes(self) -> Episode:
        """The tasks of the meta-iteration, stacked."""
        generator = torch.Generator().manual_seed(0)
        waves = Sinusoids(shots=10, queries=10)
        drawn = [self.images(generator) if self.ways else waves.sample(generator) for _ in range(self.tasks)]
        return stack_episodes(drawn)

    def images(self, generator: torch.Generator) -> Episode:
        """One task, of images as coarse as characters are."""
        coarse = torch.rand(2, self.ways, 1, 7, 7, generator=generator).gt(0.7).float()
        sides = coarse.repeat_interleave(4, -1).repeat_interleave(4, -2)
        support, query = (Batch(x, torch.arange(self.ways), torch.ones(self.ways), self.ways) for x in sides)
        return Episode(support, query)


def cases(quick: bool) -> list[Case]:
    """The sine waves, then the images."""
    if quick:
        return [Case("sine waves, 1 step, 4 tasks", 0, 4, 1, 0.01), Case("Conv4, 5-way 1-shot", 5, 2, 1, 0.4)]
    waves = [
        Case(f"sine waves, {steps} steps, {tasks} tasks", 0, tasks, steps, 0.01, "ratio 25" if tasks == 100 else "")
        for steps in (1, 5)
        for tasks in (4, 25, 100)
    ]
    five = Case("Conv4, 5-way 1-shot, 1 step, 16 tasks", 5, 16, 1, 0.4, "ratio 1.8")
    twenty = Case("Conv4, 20-way 1-shot, 5 steps, 4 tasks", 20, 4, 5, 0.1, "ratio 1.8")
    return [*waves, five, twenty]


class Block(nn.Module):
    """A convolution of stride 2, batch normalisation and ReLU, of torch's own modules."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, 3, stride=2, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(outputs, track_running_stats=False)

    def forward(self, hidden: Tensor) -> Tensor:
        """[example, output, height, width]"""
        return torch.relu(self.norm(self.conv(hidden)))


class Blocks(nn.Module):
    """The four blocks, and the mean of each last map."""

    def __init__(self, widths: tuple[int, ...]) -> None:
        super().__init__()
        self.blocks = nn.Sequential(*(Block(*pair) for pair in pairwise(widths)))

    def forward(self, images: Tensor) -> Tensor:
        """[example, width]"""
        found: Tensor = self.blocks(images).mean((2, 3))
        return found


class Plain(nn.Module):
    """The network as users of the peers write it, with our meta-parameters in it."""

    def __init__(self, network: Network, params: Params) -> None:
        super().__init__()
        backbone = network.backbone
        images = isinstance(backbone, Conv4)
        self.body = Blocks((backbone.channels, *backbone.widths)) if images else backbone.module()
        self.head = nn.Linear(network.backbone.width, network.outputs)
        self.load_state_dict(params)
        self.requires_grad_(True)

    def forward(self, inputs: Tensor) -> Tensor:
        """[example, output]"""
        found: Tensor = self.head(self.body(inputs))
        return found

    def gradients(self, tasks: int) -> Params:
        """The mean of what `tasks` backwards left, which is taken away."""
        found = {name: parameter.grad / tasks for name, parameter in self.named_parameters()}
        self.zero_grad(set_to_none=True)
        return found


def loss_of(model: Any, batch: Batch) -> Tensor:
    """Cross-entropy, or the squared error."""
    return (cross_entropy if batch.ways else mse_loss)(model(batch.inputs), batch.targets)


def by_higher(case: Case, model: Plain, tasks: list[Episode]) -> Result:
    """One meta-iteration of higher."""
    losses = []
    for task in tasks:
        optimiser = torch.optim.SGD(model.parameters(), lr=case.rate)
        with higher.innerloop_ctx(model, optimiser, copy_initial_weights=False) as (moving, inner):
            for _ in range(case.steps):
                inner.step(loss_of(moving, task.support))
            loss = loss_of(moving, task.query)
            loss.backward()
        losses.append(loss.detach())
    return torch.stack(losses), model.gradients(len(tasks))


def by_torchopt(case: Case, model: Plain, tasks: list[Episode]) -> Result:
    """One meta-iteration of torchopt."""
    losses = []
    inner = torchopt.MetaSGD(model, lr=case.rate)
    start = torchopt.extract_state_dict(model, by="reference", detach_buffers=True)
    state = torchopt.extract_state_dict(inner, by="reference")
    for task in tasks:
        for _ in range(case.steps):
            inner.step(loss_of(model, task.support))
        loss = loss_of(model, task.query)
        loss.backward()
        losses.append(loss.detach())
        torchopt.recover_state_dict(model, start)
        torchopt.recover_state_dict(inner, state)
    return torch.stack(losses), model.gradients(len(tasks))


def route(case: Case, side: str, dtype: torch.dtype = torch.float32) -> Callable[[], Result]:
    """One meta-iteration of one of `MODES` or `PEERS`."""
    learner, drawn = case.learner, case.learner.init(torch.Generator().manual_seed(0))
    params = {name: tensor.to(dtype) for name, tensor in drawn.items()}
    episodes = tree_map(lambda leaf: leaf.to(dtype) if leaf.is_floating_point() else leaf, case.episodes())
    if side in MODES:
        return partial(mean_loss_and_gradients, learner.loss, params, episodes, *MODES[side])
    peer = {"higher": by_higher, "torchopt": by_torchopt}[side]
    return partial(peer, case, Plain(learner.network, params).to(dtype), unstack(episodes))


def compare(options: Options) -> list[Row]:
    """For each case, rows of speed and of memory beside each peer."""
    rows = []
    for case in cases(options.quick):
        routes = {side: route(case, side) for side in (*MODES, *PEERS)}
        # In float32 a rounding that takes one ReLU across its kink changes a second derivative by a tenth.
        exact = {side: route(case, side, torch.float64)() for side in routes}
        apart = {side: disagreement(exact["loop"], found) for side, found in exact.items()}
        seconds = medians(routes, 1 if options.quick else 9)
        speed = {side: 1 / each for side, each in seconds.items()}
        ours = max(MODES, key=speed.__getitem__)
        peaks = {side: peak(case, side, options.threads) for side in (ours, *PEERS)}
        facts = {"ours": ours, "tasks": case.tasks, "steps": case.steps, "speed": speed, "disagreement": apart}
        for peer in PEERS:
            title = f"second-order MAML, {case.name} / {peer}"
            rows.append(Row(title, speed[ours], speed[peer], "meta-iterations a second", facts, case.target))
            memory = (f"{title}: peak memory", peaks[ours], peaks[peer], "MiB", facts, "ratio 1")
            rows.append(Row(*memory, less_is_better=True))
    return rows


def disagreement(one: Result, other: Result) -> float:
    """The norm of the difference of the gradients in parts of their norm.

    Raises:
        RuntimeError: it is more than rounding, or the losses differ, so that the sides are not the same computation.
    """
    vectors = [torch.cat([gradients[name].flatten() for name in one[1]]) for _, gradients in (one, other)]
    found = float((vectors[0] - vectors[1]).norm() / vectors[0].norm())
    if found > 1e-6 or not torch.allclose(one[0], other[0], rtol=1e-6, atol=1e-6):
        raise RuntimeError(
            f"the two sides do not compute the same: gradients differ by {found}, losses {one[0]}, {other[0]}"
        )
    return found


def peak(case: Case, side: str, threads: int) -> float:
    """How much memory, in MiB, three meta-iterations take at most, in a process of their own."""
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        return pool.submit(growth, case, side, threads).result()


def growth(case: Case, side: str, threads: int) -> float:
    """As `peak`, in this process; needs Linux. What is loaded when a side first runs does not count."""
    torch.set_num_threads(threads)
    route(replace(case, tasks=1), side)()
    run = route(case, side)
    before = resident("VmRSS")
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    for _ in range(3):
        run()
    return resident("VmHWM") - before


def resident(field: str) -> float:
    """A line of this process's status, in MiB."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    (found,) = (line for line in lines if line.startswith(f"{field}:"))
    return int(found.split()[1]) / 1024


if __name__ == "__main__":
    main(compare, __doc__)
