"""Spellings are alike throughout a task, new in each, and leave alone what the prompt names."""

import re
from dataclasses import dataclass

import pytest
import torch

from quickstudy.core.errors import TaskError
from quickstudy.tasks.sql.respelled import NAMES, NEW_QUOTES, WORD, Respelled
from quickstudy.tasks.sql.tasks import TranslationTasks
from quickstudy.tasks.text_tasks import Pair, TextTask, TextTaskSource

SOURCE = TranslationTasks("train", shots=6, queries=2)


SHARED = {part.upper() for name in NAMES for part in name.split()} | set(NAMES)


def both(seed, most=1.0):
    """The task as it was, and respelled: pairs of pairs."""
    plain = SOURCE.draw(torch.Generator().manual_seed(seed))
    task = Respelled(SOURCE, most).draw(torch.Generator().manual_seed(seed))
    return list(zip((*plain.support, *plain.query), (*task.support, *task.query), strict=True))


@pytest.mark.parametrize("seed", range(6))
def test_prompts_and_what_they_name_stay(seed):
    for before, after in both(seed):
        assert after.prompt == before.prompt
        capitals = set(re.findall(r"[A-Z_]+", before.prompt))
        names = {word for word in WORD.findall(before.prompt) if word.upper() not in capitals}
        kept = [word for word in WORD.findall(before.completion) if word in names]
        left = iter(WORD.findall(after.completion))
        assert all(word in left for word in kept)


@dataclass(frozen=True)
class Written(TextTaskSource):
    """One task with these completions, all for the same prompt."""

    prompt: str
    completions: tuple[str, ...]

    def draw(self, generator):
        """That task."""
        return TextTask("", "", tuple(Pair(self.prompt, text) for text in self.completions), ())


@pytest.mark.parametrize("seed", range(20))
def test_each_word_and_sign_is_spelled_alike_throughout_a_task(seed):
    parts = ("SELECT", "cost AS total", "FROM", "orders", "WHERE", "cost <> cost", "AND", "cost + cost", "> 5")
    whole = "SELECT cost AS total FROM orders WHERE cost <> cost AND cost + cost > 5"
    source = Written(
        "SELECT cost AS total FROM orders WHERE cost = 5", (*parts[:-1], "cost > 5", whole, "SELECT SELECT")
    )
    task = Respelled(source, 1.0).draw(torch.Generator().manual_seed(seed))
    *spelled, last, all_of_it, twice = [pair.completion for pair in task.support]
    assert all_of_it == " ".join([*spelled, last.removeprefix("cost ")])
    assert twice == f"{spelled[0]} {spelled[0]}"
    assert spelled[3] == "orders"
    assert re.fullmatch("cost .+ total", spelled[1])


def test_names_of_functions_and_brackets_are_spelled_in_some_tasks():
    source = Written("SELECT COUNT(cost) FROM orders", ("SELECT COUNT(cost, 5), 6 FROM orders",))
    made = {
        Respelled(source, 1.0).draw(torch.Generator().manual_seed(seed)).support[0].completion for seed in range(60)
    }
    assert len(made) > 35
    assert any("(" not in text and ")" not in text for text in made)
    assert any("," not in text for text in made)
    assert all("cost" in text and "orders" in text for text in made)


def test_spellings_are_new_in_each_task():
    tasks = [{w for _, after in both(seed) for w in WORD.findall(after.completion)} for seed in range(8)]
    plain = [{w for before, _ in both(seed) for w in WORD.findall(before.completion)} for seed in range(8)]
    made = [words - known for words, known in zip(tasks, plain, strict=True)]
    assert sum(map(len, made)) > 20
    for number, words in enumerate(made):
        for other in made[number + 1 :]:
            assert len((words & other) - SHARED) <= 2


def test_nothing_is_respelled_with_probability_0():
    assert all(before == after for before, after in both(0, most=0.0))
    with pytest.raises(TaskError, match="most is 2"):
        Respelled(SOURCE, 2).draw(torch.Generator())


def test_quotes_kept_for_other_splits_are_not_used():
    assert not set("#{}~") & set(NEW_QUOTES)
