"""Each file of a folder is a task of writing; no prompt is in support and query."""

import pytest
import torch

from quickstudy.core.errors import TableError, TaskError
from quickstudy.tasks.pair_folder import PairFolder


def write(folder, name, rows):
    (folder / name).write_text("\n".join(["prompt,completion", *rows]))


@pytest.fixture
def folder(tmp_path):
    write(tmp_path, "to_upper.csv", [f"word {n},WORD {n}" for n in range(6)])
    write(tmp_path, "double.csv", [f"word {n},word {n} {n}" for n in range(5)] + ["Word  0,other"])
    (tmp_path / "notes.txt").write_text("no task")
    return tmp_path


def test_tasks_are_of_one_file_and_disjoint(folder):
    source = PairFolder(folder, shots=(1, 2), queries=3)
    drawn = [source.draw(torch.Generator().manual_seed(seed)) for seed in range(40)]
    assert {task.name for task in drawn} == {"to_upper", "double"}
    assert {task.description for task in drawn} == {"to upper", "double"}
    assert {len(task.support) for task in drawn} == {1, 2}
    for task in drawn:
        prompts = [pair.prompt.lower() for pair in (*task.support, *task.query)]
        assert len(set(prompts)) == len(prompts) == len(task.support) + 3
        upper = [pair.completion.isupper() for pair in (*task.support, *task.query)]
        assert all(upper) if task.name == "to_upper" else not any(upper)
    assert drawn[0] == source.draw(torch.Generator().manual_seed(0))
    assert len(set(drawn)) > 20


def test_what_is_wrong_is_said(folder, tmp_path):
    generator = torch.Generator().manual_seed(0)
    with pytest.raises(TaskError, match=r"double.csv: has 5 different prompts, and a task takes 6"):
        PairFolder(folder, shots=3, queries=3).draw(generator)
    with pytest.raises(TableError, match="no column 'question'"):
        PairFolder(folder, 1, 1, ("question", "completion")).draw(generator)
    with pytest.raises(TaskError, match="there is no such folder"):
        PairFolder(tmp_path / "gone").draw(generator)
    with pytest.raises(TaskError, match="shots"):
        PairFolder(folder, 0, 1).draw(generator)
