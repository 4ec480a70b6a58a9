"""The recipe of the base for SQL, at toy size: its tokeniser loses nothing, and what is written is what was trained."""

from dataclasses import replace

import pytest
import torch

from quickstudy.learners.losses import weighted_loss
from quickstudy.tasks.sql.tasks import TranslationTasks
from quickstudy.training import fit
from recipes.sql_base import Size, backbone, recipe, texts, tokeniser, write_blank, write_trained

TASKS = TranslationTasks("train", shots=2, queries=1, support="random", answerable=False)
TINY = Size(vocabulary=300, width=16, layers=1, heads=2)


@pytest.fixture(scope="module")
def blank(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sql") / "blank"
    write_blank(folder, tokeniser(TASKS, TINY, 3), TINY)
    return folder


def test_the_tokeniser_loses_nothing(blank):
    tokenizer = backbone(blank)._base.tokenizer
    for text in [*texts(TASKS, 3, seed=1), "naïve  ☃\n\t'x''y' [a b]"]:
        assert tokenizer.decode(tokenizer(text)["input_ids"]) == text
    assert len(tokenizer) == 300


def test_training_lowers_the_loss_and_what_is_written_is_what_was_trained(blank, tmp_path):
    learner, tasks, options = recipe(blank, 12, TASKS)
    options = replace(options, tasks_per_step=2, lr=2e-2, precision="float32", progress=False)
    fitted = fit(learner, tasks, options)
    losses = [row["loss"] for row in fitted.history]
    assert losses[-1] < losses[0] - 0.5
    write_trained(tmp_path / "model", blank, fitted.params)
    episode = tasks.sample(torch.Generator().manual_seed(7))
    found = weighted_loss(backbone(tmp_path / "model").module()(episode.query.inputs), episode.query)
    expected = weighted_loss(learner.network(fitted.params, episode.query.inputs), episode.query)
    torch.testing.assert_close(found, expected, atol=0.05, rtol=0.02)
    untrained = weighted_loss(backbone(blank).module()(episode.query.inputs), episode.query)
    assert float(untrained) > float(found) + 0.3


def test_validation_and_test_dialects_are_not_in_training():
    _, tasks, _ = recipe("anywhere", 1)
    assert tasks.source.source.split == "train"
