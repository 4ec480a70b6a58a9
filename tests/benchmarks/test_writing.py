"""The two sides of the comparison on a language model compute the same."""

import importlib
from functools import partial

import pytest
import torch

from quickstudy.backbones import CausalLM
from quickstudy.core.inner import InnerLoop
from quickstudy.core.optimisers import Adam
from quickstudy.core.vectorise import over_tasks
from quickstudy.deltas import LoRA
from quickstudy.learners.network import Network
from quickstudy.learners.optimisation.maml import MAML
from quickstudy.tasks.sql.tasks import TranslationTasks
from quickstudy.tasks.text_tasks import EncodedTextTasks

pytest.importorskip("peft")


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")  # PEFT calls it
def test_steps_lower_the_loss_of_each_task_as_much_as_the_peers():
    writing = importlib.import_module("writing")
    base = CausalLM(writing.BASE, max_tokens=512, between="\n")
    delta = LoRA(writing.RANK, writing.ALPHA, ("q_proj", "v_proj"))
    learner = MAML(Network(base, delta), InnerLoop(4, Adam(writing.RATE, eps=writing.EPS**2), order="first"))
    params = learner.init(torch.Generator().manual_seed(0))
    source, draws = TranslationTasks("test", 3, 1), torch.Generator().manual_seed(1)
    drawn = [source.draw(draws) for _ in range(2)]
    encoder = EncodedTextTasks(source, partial(base.batch, pack=True))
    episodes = [encoder.episode(task) for task in drawn]
    ours = writing.adapted(over_tasks(partial(writing.matrices, learner), "loop"), params, episodes)
    theirs = writing.peer_of(delta, params, torch.float32, drawn, 4)()
    losses = [writing.after(learner, episodes, found) for found in (ours, theirs)]
    learned = writing.before(learner, params, episodes) - losses[0]
    assert learned.min() > 0.03
    assert ((losses[0] - losses[1]).abs() / learned).max() < 0.01
