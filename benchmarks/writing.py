"""Adapting a language model: tasks per second of steps on LoRA, ours on eight tasks at once beside a loop over PEFT.

Both sides do the same sums on the base that ships: ten pairs of a SQL dialect, gradient steps by Adam on LoRA from the
same start. Losses after it are compared. Texts are tokenised beforehand on both sides.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers.utils import logging

from peft_names import peft_parameters
from quickstudy.backbones import CausalLM
from quickstudy.backbones.pretrained import source_of
from quickstudy.core.inner import InnerLoop
from quickstudy.core.optimisers import Adam
from quickstudy.core.stacking import Tasks
from quickstudy.core.types import Episode, Params
from quickstudy.core.vectorise import over_tasks
from quickstudy.deltas import LoRA
from quickstudy.learners.losses import support_loss
from quickstudy.learners.network import Network
from quickstudy.learners.optimisation.maml import MAML
from quickstudy.tasks.sql.tasks import SQLTask, TranslationTasks
from quickstudy.tasks.text_tasks import EncodedTextTasks
from report import Options, Row, main
from stopwatch import medians

BASE, RANK, ALPHA, RATE = "quickstudy-sql", 8, 16.0, 3e-3
EPS = 1e-8
"""Of the peer, outside the root; ours is inside it."""
PLACES = {"q and v": ("q_proj", "v_proj"), "all linear layers": ()}
MODES = ("loop", "threads")
"""What mapping tasks takes is not timed: products are large enough in one task, and it took four times as long."""
PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16}


@dataclass(frozen=True)
class Peer:
    """A loop over tasks with one PEFT model, whose matrices are set back for each task.

    Attributes:
        model: from `get_peft_model`, in eval mode, so that there is no dropout, as in ours.
        start: our names -> the starting values.
        moving: our names -> the model's own parameters.
        tasks: of each, padded token ids, their mask, and labels.
        steps: of Adam.
    """

    model: Any
    start: Params
    moving: dict[str, nn.Parameter]
    tasks: list[dict[str, Tensor]]
    steps: int

    def __call__(self) -> Params:
        """Name -> [task, ...]: the matrices after the steps."""
        found = []
        for task in self.tasks:
            with torch.no_grad():
                for name, parameter in self.moving.items():
                    parameter.copy_(self.start[name])
            optimiser = torch.optim.Adam(self.moving.values(), lr=RATE, eps=EPS)
            for _ in range(self.steps):
                optimiser.zero_grad()
                self.model(**task).loss.backward()
                optimiser.step()
            found.append({name: parameter.detach().clone() for name, parameter in self.moving.items()})
        return {name: torch.stack([each[name] for each in found]) for name in self.moving}


def compare(options: Options) -> list[Row]:
    """A row for each place of the matrices and each precision."""
    logging.set_verbosity_error()
    count, steps, shots = (2, 1, 2) if options.quick else (8, 10, 10)
    source, generator = TranslationTasks("test", shots, 1), torch.Generator().manual_seed(0)
    drawn = [source.draw(generator) for _ in range(count)]
    rows = []
    for place, targets in PLACES.items():
        for precision in PRECISIONS:
            rows.append(compared(place, targets, precision, drawn, steps, options))
            if options.quick:
                return rows
    return rows


def compared(
    place: str, targets: tuple[str, ...], precision: str, drawn: list[SQLTask], steps: int, options: Options
) -> Row:
    """The row of matrices in this place on a base of this precision."""
    base = CausalLM(BASE, max_tokens=2048, between="\n", dtype=precision)
    delta = LoRA(RANK, ALPHA, targets or base.linears)
    learner = MAML(Network(base, delta), InnerLoop(steps, Adam(RATE, eps=EPS**2), order="first"))
    params = learner.init(torch.Generator().manual_seed(0))
    encoder = EncodedTextTasks(TranslationTasks("test"), partial(base.batch, pack=True))
    episodes = [encoder.episode(task) for task in drawn]
    routes: dict[str, Callable[[], Params]] = {
        mode: partial(adapted, over_tasks(partial(matrices, learner), mode, 1), params, episodes) for mode in MODES
    }
    routes["PEFT"] = peer_of(delta, params, PRECISIONS[precision], drawn, steps)
    losses = [after(learner, episodes, routes[name]()) for name in ("PEFT", "loop")]
    apart = float(((losses[0] - losses[1]).abs() / (before(learner, params, episodes) - losses[1])).max())
    if precision == "float32" and apart > 0.1:
        raise RuntimeError(f"the two sides do not compute the same: {losses}")
    speed = {name: len(drawn) / seconds for name, seconds in medians(routes, 1 if options.quick else 3).items()}
    best = max(MODES, key=speed.__getitem__)
    settings = {"steps": steps, "rank": RANK, "examples": len(drawn[0].support), "tasks": len(drawn), "base": BASE}
    settings |= {"tasks_per_second": speed, "ours": best, "disagreement_in_parts_of_what_was_learned": apart}
    name = f"adapting {len(drawn)} tasks, LoRA in {place}, {precision} / loop over PEFT"
    return Row(name, speed[best], speed["PEFT"], "tasks a second", settings, "ratio 3")


def matrices(learner: MAML, params: Params, episode: Episode) -> Params:
    """What moved."""
    return dict(learner.adapt(params, episode.support).tensors)


def adapted(function: Callable[[Params, Tasks], Params], params: Params, episodes: Tasks) -> Params:
    """The matrices of all tasks; no graph is kept."""
    with torch.no_grad():
        return function(params, episodes)


def peer_of(delta: LoRA, params: Params, dtype: torch.dtype, drawn: list[SQLTask], steps: int) -> Peer:
    """The peer, with our starting values in it."""
    folder = source_of(BASE)
    tokeniser = AutoTokenizer.from_pretrained(folder)
    config = LoraConfig(
        r=RANK, lora_alpha=int(ALPHA), target_modules=list(delta.targets), task_type="CAUSAL_LM", lora_dropout=0.0
    )
    model = get_peft_model(AutoModelForCausalLM.from_pretrained(folder, dtype=dtype), config).eval()
    return Peer(model, params, peft_parameters(model, params), [tokens(tokeniser, task) for task in drawn], steps)


def tokens(tokeniser: Any, task: SQLTask) -> dict[str, Tensor]:
    """The support as a peer's batch: prompts count in no loss."""
    rows, labels = [], []
    for pair in task.support:
        prompt = tokeniser(pair.prompt + "\n")["input_ids"]
        completion = tokeniser(pair.completion, add_special_tokens=False)["input_ids"] + [tokeniser.eos_token_id]
        rows.append(torch.tensor(prompt + completion))
        labels.append(torch.tensor([-100] * len(prompt) + completion))
    padded = nn.utils.rnn.pad_sequence
    ids = padded(rows, batch_first=True, padding_value=tokeniser.pad_token_id)
    mask = padded([torch.ones_like(row) for row in rows], batch_first=True)
    return {"input_ids": ids, "attention_mask": mask, "labels": padded(labels, batch_first=True, padding_value=-100)}


def before(learner: MAML, params: Params, episodes: list[Episode]) -> Tensor:
    """[task]: the loss on the examples before any step."""
    stacked = {name: tensor.expand(len(episodes), *tensor.shape) for name, tensor in params.items()}
    return after(learner, episodes, stacked)


def after(learner: MAML, episodes: list[Episode], found: Params) -> Tensor:
    """[task]: the loss on the examples with the matrices that were found. Adam's first steps have the size of the rate
    whatever the gradient is, so that matrices differ where gradients are rounding, and losses do not."""
    losses = []
    for number, episode in enumerate(episodes):
        mine = {name: tensor[number] for name, tensor in found.items()}
        with torch.no_grad():
            losses.append(support_loss(learner.network, episode.support)(mine))  # type: ignore[call-arg]
    return torch.stack(losses)


if __name__ == "__main__":
    main(compare, __doc__)
