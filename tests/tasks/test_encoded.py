"""Indexing what was encoded once equals encoding anew."""

import pytest
import torch

from quickstudy.core.errors import TaskError
from quickstudy.tasks.encoded import EncodedTexts

TEXTS = tuple("x" * length for length in (3, 700, 1, 12, 5, 12)) + tuple(
    "y" * (1 + number % 40) for number in range(900)
)


def tokens(texts):
    width = max(map(len, texts))
    ids = torch.tensor([[ord(c) for c in text] + [0] * (width - len(text)) for text in texts])
    hidden = ids[..., None] * torch.tensor([1.0, 0.5])
    return {
        "input_ids": ids,
        "mask": (ids > 0).long(),
        "hidden": hidden,
        "length": torch.tensor([len(t) for t in texts]),
    }


def left_padded(texts):
    return {name: leaf.flip(1) if leaf.dim() > 1 else leaf for name, leaf in tokens(texts).items()}


def lengths(texts):
    return torch.tensor([[float(len(text)), 1.0] for text in texts])


@pytest.mark.parametrize("rows", [[0], [2, 0], [4, 3, 4], [1, 2], [905, 6, 30]])
def test_kept_encodings_are_those_of_the_asked_texts_alone(rows):
    kept, anew = EncodedTexts(tokens, TEXTS)(torch.tensor(rows)), EncodedTexts(tokens, TEXTS, False)(torch.tensor(rows))
    assert kept.keys() == anew.keys()
    for name in kept:
        assert torch.equal(kept[name], anew[name]), name
    assert torch.equal(EncodedTexts(lengths, TEXTS)(torch.tensor(rows)), lengths([TEXTS[row] for row in rows]))


def test_padding_at_the_left_is_kept():
    found = EncodedTexts(left_padded, ("aaa", "b"))(torch.tensor([1, 0]))
    assert torch.equal(found["input_ids"], left_padded(["b", "aaa"])["input_ids"])


def test_every_text_is_encoded_once_and_only_when_asked_for():
    seen = []

    def counting(texts):
        seen.extend(texts)
        return tokens(texts)

    encoded = EncodedTexts(counting, TEXTS)
    assert not seen
    encoded(torch.tensor([1]))
    encoded(torch.tensor([2]))
    assert sorted(seen) == sorted(TEXTS)


def test_encoders_that_return_something_else_are_refused():
    with pytest.raises(TaskError, match="expected one row a text"):
        EncodedTexts(lambda texts: torch.zeros(1, 2), ("a", "b"))(torch.tensor([0]))
    with pytest.raises(TaskError, match="different shapes"):
        EncodedTexts(lambda texts: tokens(texts)["input_ids"], TEXTS)(torch.tensor([0]))
