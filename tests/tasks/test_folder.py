"""A folder of task files."""

import pandas as pd
import pytest
import torch

from quickstudy.core.errors import TableError, TaskError
from quickstudy.tasks.conformance import check_source
from quickstudy.tasks.folder import FolderTasks


def encode(texts):
    width = max(map(len, texts))
    ids = torch.tensor([[ord(c) for c in text] + [0] * (width - len(text)) for text in texts])
    return {"input_ids": ids, "mask": (ids > 0).long()}


def read_back(batch):
    rows = zip(batch.inputs["input_ids"].tolist(), batch.targets.tolist(), batch.weights.tolist(), strict=True)
    return [("".join(chr(c) for c in row if c), target) for row, target, weight in rows if weight]


@pytest.fixture
def folder(tmp_path):
    for name, ways in (("mail", 2), ("tickets", 3), ("chat", 4)):
        rows = [(f"{name} {label} {row}", f"{name}_{label}") for label in range(ways) for row in range(6)]
        frame = pd.DataFrame(rows, columns=["text", "label"])
        if name == "mail":
            frame.to_csv(tmp_path / "mail.csv", index=False)
        elif name == "tickets":
            frame.to_json(tmp_path / "tickets.jsonl", orient="records", lines=True)
        else:
            frame.to_parquet(tmp_path / "chat.parquet")
    (tmp_path / "README.md").write_text("not a task")
    return tmp_path


def test_each_episode_is_of_one_file_with_all_its_classes(folder):
    source = FolderTasks(folder, encode, shots=(1, 2), queries=3, class_names=True)
    check_source(source)
    seen = {}
    for seed in range(40):
        episode = source.sample(torch.Generator().manual_seed(seed))
        rows = read_back(episode.support) + read_back(episode.query)
        assert {text.split()[0] for text, _ in rows} == {episode.task}
        assert all(" ".join(text.split()[:2]) == episode.labels[target].replace("_", " ") for text, target in rows)
        assert (episode.support.ways, len(episode.support.weights), len(episode.query.weights)) == (4, 12, 12)
        seen.setdefault(episode.task, set()).add(episode.labels)
    assert {task: len(next(iter(labels))) for task, labels in seen.items()} == {"mail": 2, "tickets": 3, "chat": 4}
    assert all(len(orders) > 1 for orders in seen.values())


def test_bad_folders_are_refused(folder, tmp_path_factory):
    generator = torch.Generator()
    with pytest.raises(TaskError, match="no such folder"):
        FolderTasks(folder / "x", encode).sample(generator)
    with pytest.raises(TaskError, match=r"no task file; expected files that end in \.csv"):
        FolderTasks(tmp_path_factory.mktemp("empty"), encode).sample(generator)
    with pytest.raises(TaskError, match=r"chat: .*5 shots \+ 2 queries = 7.*'chat_0' has 6"):
        FolderTasks(folder, encode, queries=2).sample(generator)
    (folder / "bad.csv").write_text("sentence,label\na,b\n")
    with pytest.raises(TableError, match=r"bad\.csv: there is no column 'text'"):
        FolderTasks(folder, encode).sample(generator)
