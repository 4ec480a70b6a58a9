"""Meta-training: tasks per second of first-order MAML on LoRA, ours beside a loop over a PEFT model.

Both sides do the same sums: 5-way 5-shot tasks of BANKING77 with 5 questions a class, 5 inner steps of gradient
descent on LoRA and a linear head, then the gradient of the loss on the questions at the adapted parameters (Finn et
al., 2017, arXiv 1703.03400, first order). Losses and gradients are compared. Texts are tokenised beforehand on both
sides; where the lower layers are frozen, ours computes them once a text, beforehand too, and the time of that is told.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, normalize
from transformers import AutoModel, AutoTokenizer
from transformers.utils import logging

from peft_names import peft_parameters
from quickstudy import Batch, Episode, LoRA, Network, TextEncoder
from quickstudy.core.inner import InnerLoop
from quickstudy.core.optimisers import SGD
from quickstudy.core.stacking import stack_episodes
from quickstudy.core.types import Params
from quickstudy.core.vectorise import mean_loss_and_gradients
from quickstudy.learners.optimisation.maml import MAML
from report import Options, Row, main
from stopwatch import medians, seconds_of
from texts import Rows, Task, minilm_folder, rows_of, tasks

WAYS, SHOTS, STEPS, RATE, RANK, ALPHA = 5, 5, 5, 0.1, 8, 16.0
LAST = {"last two layers": (4, 5), "all layers": None}

MODES = ("loop", "chunks", "vmap")
KINDS = (
    ("both in float32", "float32", "float32"),
    ("each side's fastest", "", ""),
    ("our fastest, the peer as it comes (float32)", "", "float32"),
)

Result = tuple[Tensor, Params]
"""Losses [task] and the gradient of their mean."""


@dataclass(frozen=True)
class Peer:
    """A loop over tasks with one PEFT model, its LoRA and head set back for each task.

    Attributes:
        model: from `get_peft_model`, in eval mode, so that there is no dropout, as in ours.
        head: the linear layer on the pooled features.
        start: our names -> the meta-parameters.
        moving: our names -> the model's and head's own parameters.
        tasks: tokenised support and query, padded to the longest of each.
    """

    model: Any
    head: nn.Linear
    start: Params
    moving: dict[str, nn.Parameter]
    tasks: list[tuple[tuple[Any, Tensor], tuple[Any, Tensor]]]

    def __call__(self, dtype: torch.dtype) -> Result:
        """One meta-step's losses and gradient."""
        losses = []
        total = {name: torch.zeros_like(tensor) for name, tensor in self.start.items()}
        for support, query in self.tasks:
            with torch.no_grad():
                for name, parameter in self.moving.items():
                    parameter.copy_(self.start[name])
            optimiser = torch.optim.SGD(self.moving.values(), lr=RATE)
            for _ in range(STEPS):
                optimiser.zero_grad()
                self.loss(support, dtype).backward()
                optimiser.step()
            optimiser.zero_grad()
            loss = self.loss(query, dtype)
            loss.backward()
            losses.append(loss.detach())
            for name, parameter in self.moving.items():
                assert parameter.grad is not None
                total[name] += parameter.grad / len(self.tasks)
        return torch.stack(losses), total

    def loss(self, batch: tuple[Any, Tensor], dtype: torch.dtype) -> Tensor:
        """Cross-entropy on mean-pooled features of length 1."""
        tokens, targets = batch
        with torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
            hidden = self.model(**tokens).last_hidden_state
            weights = tokens["attention_mask"][:, :, None].to(hidden.dtype)
            features = normalize((hidden * weights).sum(1) / weights.sum(1), dim=-1)
            return cross_entropy(self.head(features).float(), targets)


def compare(options: Options) -> list[Row]:
    """For LoRA in the last two and in all layers, the pairings of `KINDS`."""
    torch.manual_seed(0)
    logging.set_verbosity_error()
    drawn = tasks(rows_of("banking77", "train"), 2 if options.quick else 8, 1 if options.quick else SHOTS)
    rows = []
    for title, layers in LAST.items():
        rows += compared(title, layers, drawn, options)
        if options.quick:
            break
    return rows


def compared(title: str, layers: tuple[int, ...] | None, drawn: list[Task], options: Options) -> list[Row]:
    """Rows for LoRA in these layers."""
    learner, encoder = ours(layers)
    params = started(learner)
    encoding, episodes = seconds_of(lambda: stack_episodes([episode(encoder, task) for task in drawn]))
    peer = peer_of(layers, params, drawn)
    routes: dict[str, Callable[[], Result]] = {}
    for precision, dtype in (("float32", torch.float32), ("bfloat16", torch.bfloat16)):
        routes[f"PEFT loop, {precision}"] = partial(peer, dtype)
        loss = partial(loss_in, learner, dtype)
        for mode in MODES[:1] if options.quick else MODES:
            routes[f"{mode}, {precision}"] = partial(mean_loss_and_gradients, loss, params, episodes, mode, 4)
    expected = routes["PEFT loop, float32"]()
    exact = same(expected, routes["loop, float32"]())
    rounded = disagreement(expected, routes["loop, bfloat16"]())
    found = medians(routes, 1 if options.quick else 3)
    speed = {name: len(drawn) / seconds for name, seconds in found.items()}
    texts = sum(len(side.texts) for task in drawn for side in (task.support, task.query))
    settings = {
        "lora": {"rank": RANK, "alpha": ALPHA, "targets": ["query", "value"], "layers": layers or "all"},
        "inner": {"steps": STEPS, "optimiser": "SGD", "rate": RATE, "order": "first"},
        "tasks": len(drawn),
        "queries": len(drawn[0].query.texts),
        "tasks_per_second": speed,
        "disagreement_with_peer_in_float32": {"ours in float32": exact, "ours in bfloat16": rounded},
        "ours_beforehand_seconds_per_text": encoding / texts,
    }
    rows = []
    for kind, our_end, peer_end in KINDS:
        best = max((name for name in speed if "PEFT" not in name and name.endswith(our_end)), key=speed.__getitem__)
        theirs = max((name for name in speed if "PEFT" in name and name.endswith(peer_end)), key=speed.__getitem__)
        facts = {**settings, "ours": best, "peer": theirs}
        name = f"meta-training, LoRA in {title}, {kind} / loop over PEFT"
        rows.append(Row(name, speed[best], speed[theirs], "tasks a second", facts, "ratio 4"))
    return rows


def ours(layers: tuple[int, ...] | None) -> tuple[MAML, TextEncoder]:
    """The learner, and the encoder whose layers below `layers` are computed once a text."""
    encoder = TextEncoder(prefix=min(layers) if layers else 0)
    network = Network(encoder, LoRA(RANK, ALPHA, layers=layers), outputs=WAYS)
    return MAML(network, InnerLoop(STEPS, SGD(RATE), order="first")), encoder


def started(learner: MAML) -> Params:
    """Meta-parameters with B away from zero, as they are after some meta-training."""
    generator = torch.Generator().manual_seed(1)
    params = learner.init(generator)
    return {
        name: 0.02 * torch.randn(tensor.shape, generator=generator) if name.endswith("lora_B") else tensor
        for name, tensor in params.items()
    }


def episode(encoder: TextEncoder, task: Task) -> Episode:
    """`task` as our learners read it."""

    def batch(rows: Rows) -> Batch:
        targets = torch.tensor(rows.numbers())
        return Batch(encoder.inputs(rows.texts), targets, torch.ones(len(targets)), WAYS)

    return Episode(batch(task.support), batch(task.query))


def loss_in(learner: MAML, dtype: torch.dtype, params: Params, one: Episode) -> Tensor:
    """The learner's loss, under autocast where `dtype` is not float32."""
    with torch.autocast("cpu", dtype, enabled=dtype != torch.float32, cache_enabled=False):
        return learner.loss(params, one).float()


def peer_of(layers: tuple[int, ...] | None, params: Params, drawn: list[Task]) -> Peer:
    """The peer, with our meta-parameters in it."""
    folder = minilm_folder()
    tokeniser = AutoTokenizer.from_pretrained(folder)
    config = LoraConfig(
        r=RANK,
        lora_alpha=int(ALPHA),
        target_modules=["query", "value"],
        layers_to_transform=list(layers) if layers else None,
    )
    model = get_peft_model(AutoModel.from_pretrained(folder, add_pooling_layer=False), config).eval()
    head = nn.Linear(model.config.hidden_size, WAYS)
    moving = {"head.weight": head.weight, "head.bias": head.bias}
    moving |= peft_parameters(model, [name for name in params if name not in moving])

    def batch(rows: Rows) -> tuple[Any, Tensor]:
        return tokeniser(rows.texts, padding=True, return_tensors="pt"), torch.tensor(rows.numbers())

    return Peer(model, head, params, moving, [(batch(task.support), batch(task.query)) for task in drawn])


def same(one: Result, other: Result) -> dict[str, float]:
    """What `disagreement` finds.

    Raises:
        RuntimeError: it is more than rounding in float32, so that the two sides are not the same computation.
    """
    found = disagreement(one, other)
    if found["loss"] > 1e-4 or found["gradient"] > 1e-3:
        raise RuntimeError(f"the two sides do not compute the same: {found}")
    return found


def disagreement(one: Result, other: Result) -> dict[str, float]:
    """Largest difference of losses, and the norm of the difference of the gradients in parts of their norm."""
    gradient = torch.cat([one[1][name].flatten() for name in one[1]])
    apart = torch.cat([(one[1][name] - other[1][name]).flatten() for name in one[1]])
    return {"loss": float((one[0] - other[0]).abs().max()), "gradient": float(apart.norm() / gradient.norm())}


if __name__ == "__main__":
    main(compare, __doc__)
