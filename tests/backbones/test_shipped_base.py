"""The language model that ships: small, whole, and it reads a dialect off its examples."""

import statistics
from dataclasses import replace

import pytest
import torch

from quickstudy.backbones import CausalLM
from quickstudy.backbones.kinds import is_language_model
from quickstudy.backbones.pretrained import SHIPPED
from quickstudy.core.inner import InnerLoop
from quickstudy.deltas import Head
from quickstudy.evaluation.protocol import query_score
from quickstudy.learners.in_context.demonstrations import Demonstrations
from quickstudy.learners.in_context.tuned_demonstrations import TunedDemonstrations
from quickstudy.learners.network import Network
from quickstudy.learners.optimisation.maml import MAML
from quickstudy.lifecycle.writing_methods import Steps
from quickstudy.lifecycle.writing_start import chosen_writing

pytest.importorskip("sqlglot")

from quickstudy.tasks.sql.tasks import TranslationTasks
from quickstudy.tasks.text_tasks import EncodedTextTasks

NAME = "quickstudy-sql"


@pytest.fixture(scope="module")
def base():
    return CausalLM(NAME, max_tokens=2048, between="\n", dtype="bfloat16")


def test_it_is_found_by_name_and_small(base):
    assert is_language_model(NAME)
    assert base.fingerprint.name == NAME
    assert sum(path.stat().st_size for path in SHIPPED[NAME].iterdir()) < 40 * 2**20
    assert not [path for path in SHIPPED[NAME].iterdir() if path.suffix in {".bin", ".pt", ".pkl"}]


def test_its_tokeniser_keeps_every_query(base):
    task = TranslationTasks("test", 4, 4).draw(torch.Generator().manual_seed(0))
    texts = [pair.completion for pair in (*task.support, *task.query)]
    for text in [*texts, "SELECT 'Größe — 図' FROM \"naïve\""]:
        batch = base.batch(["x"], [text])
        assert base.text(batch.targets[0].tolist()) == text


def test_examples_of_a_dialect_never_seen_help_and_those_of_another_do_not(base):
    network = Network(base, Head())
    tasks = EncodedTextTasks(TranslationTasks("validation", shots=5, queries=3), base.batch)
    generator = torch.Generator().manual_seed(3)
    episodes = [tasks.sample(generator) for _ in range(4)]
    wrong = [
        replace(each, support=other.support) for each, other in zip(episodes, episodes[1:] + episodes[:1], strict=True)
    ]

    def loss(learner, drawn):
        with torch.no_grad():
            return statistics.mean(float(query_score(learner, {}, episode)) for episode in drawn)

    read = loss(Demonstrations(network), episodes)
    assert read < 0.85 * loss(MAML(network, InnerLoop(0)), episodes)
    assert read < 0.85 * loss(Demonstrations(network), wrong)


def test_auto_tunes_on_the_examples_while_it_reads_them(base):
    method, params = chosen_writing("auto", base, 0, Steps(6))
    assert isinstance(method.learner, TunedDemonstrations)
    tasks = EncodedTextTasks(TranslationTasks("validation", shots=5, queries=3), base.batch)
    generator = torch.Generator().manual_seed(3)
    episodes = [tasks.sample(generator) for _ in range(4)]
    with torch.no_grad():
        read = [float(query_score(Demonstrations(Network(base, Head())), {}, each)) for each in episodes]
        tuned = [float(query_score(method.learner, params, each)) for each in episodes]
    assert statistics.mean(tuned) < 0.85 * statistics.mean(read)
