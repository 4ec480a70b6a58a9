"""Spellings are alike throughout a task, new in each, and leave alone what the prompt names."""

import re

import pytest
import torch

from quickstudy.core.errors import TaskError
from quickstudy.tasks.sql.respelled import NEW_QUOTES, WORD, Respelled
from quickstudy.tasks.sql.tasks import TranslationTasks

SOURCE = TranslationTasks("train", shots=6, queries=2)


def both(seed, most=1.0):
    """The task as it was, and respelled: pairs of pairs."""
    plain = SOURCE.draw(torch.Generator().manual_seed(seed))
    task = Respelled(SOURCE, most).draw(torch.Generator().manual_seed(seed))
    return list(zip((*plain.support, *plain.query), (*task.support, *task.query), strict=True))


@pytest.mark.parametrize("seed", range(6))
def test_prompts_stay_and_each_word_has_one_spelling(seed):
    spelled = {}
    for before, after in both(seed):
        assert after.prompt == before.prompt
        words = WORD.findall(before.completion), WORD.findall(after.completion)
        assert len(words[0]) == len(words[1])
        capitals = set(re.findall(r"[A-Z_]+", before.prompt))
        for old, new in zip(*words, strict=True):
            named = (
                old.lower() in {word.lower() for word in WORD.findall(before.prompt)} and old.upper() not in capitals
            )
            if named:
                assert new == old
            else:
                assert spelled.setdefault(old, new) == new


def test_spellings_are_new_in_each_task():
    tasks = [{w for _, after in both(seed) for w in WORD.findall(after.completion)} for seed in range(8)]
    plain = [{w for before, _ in both(seed) for w in WORD.findall(before.completion)} for seed in range(8)]
    made = [words - known for words, known in zip(tasks, plain, strict=True)]
    assert sum(map(len, made)) > 20
    for number, words in enumerate(made):
        for other in made[number + 1 :]:
            assert len(words & other) <= 2


def test_nothing_is_respelled_with_probability_0():
    assert all(before == after for before, after in both(0, most=0.0))
    with pytest.raises(TaskError, match="most is 2"):
        Respelled(SOURCE, 2).draw(torch.Generator())


def test_quotes_kept_for_other_splits_are_not_used():
    assert not set("#{}~") & set(NEW_QUOTES)
