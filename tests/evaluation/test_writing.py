"""Tasks of writing are judged by what is written for them, by each task alone, and nothing moves."""

import pytest
import torch
from ciphers import Ciphers
from language_models import write_language_model

from quickstudy.backbones import CausalLM
from quickstudy.core.inner import InnerLoop
from quickstudy.core.optimisers import Adam
from quickstudy.deltas import LoRA
from quickstudy.evaluation import evaluate_writing
from quickstudy.learners.network import Network
from quickstudy.learners.optimisation.maml import MAML
from quickstudy.tasks.text_tasks import EncodedTextTasks, TextTask


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return CausalLM(str(write_language_model(tmp_path_factory.mktemp("base"), "llama")), max_tokens=32)


def exact(task, texts):
    return sum(text == pair.completion for text, pair in zip(texts, task.query, strict=True)) / len(texts)


def test_what_was_learned_is_what_is_written(base):
    # The query is the support, so steps on it show, and no steps do not.
    tasks = EncodedTextTasks(Ciphers(shots=3, queries=3), base.batch)
    generator = torch.Generator().manual_seed(1)
    drawn = [TextTask("", "", support, support) for support in (tasks.source.draw(generator).support for _ in "ab")]
    scores = []
    for steps in (0, 60):
        network = Network(base, LoRA(8, 16, base.linears))
        learner = MAML(network, InnerLoop(steps, Adam(1e-2), order="first"))
        params = learner.init(torch.Generator().manual_seed(0))
        before = {name: tensor.clone() for name, tensor in params.items()}
        found = evaluate_writing(learner, params, tasks, drawn, exact, most=6)
        assert all(torch.equal(before[name], tensor) for name, tensor in params.items())
        assert found.values.shape == found.adapt_seconds.shape == found.write_seconds.shape == (2,)
        alone = evaluate_writing(learner, params, tasks, drawn[1:], exact, most=6)
        assert alone.values.tolist() == found.values[1:].tolist()
        scores.append(float(found.values.mean()))
    assert scores[0] < 0.2
    assert scores[1] > 0.8
