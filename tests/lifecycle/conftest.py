"""A tiny encoder in a folder, and examples in its words."""

from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
WORDS = {
    "parcel": ["parcel", "delivery", "courier", "late", "track"],
    "refund": ["refund", "money", "back", "paid", "return"],
    "repair": ["repair", "brake", "wheel", "broken", "fix"],
    "battery": ["battery", "charge", "empty", "range", "power"],
}
FILLING = ["my", "the", "is", "please", "where", "a", "i", "want", "for", "now"]
NUMBERS = [f"n{number}" for number in range(40)]


def write_base(folder: Path, seed: int = 0, layers: int = 2) -> Path:
    """A random BERT over the words above; words of one class begin near each other."""
    vocabulary = [*SPECIAL, *(word for words in WORDS.values() for word in words), *FILLING, *NUMBERS]
    sizes = {"hidden_size": 24, "num_attention_heads": 2, "intermediate_size": 32, "max_position_embeddings": 24}
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = BertModel(BertConfig(vocab_size=len(vocabulary), num_hidden_layers=layers, **sizes))
        table = model.embeddings.word_embeddings.weight.data
        table.normal_(std=0.5)
        for name, words in WORDS.items():
            rows = [vocabulary.index(word) for word in words]
            table[rows] = table[rows] + 3 * table[vocabulary.index(name)]
        steps = torch.linspace(-3, 3, len(NUMBERS))[:, None]
        begin = vocabulary.index(NUMBERS[0])
        table[begin : begin + len(NUMBERS)] = table[begin] * steps + table[begin + 1]
    model.save_pretrained(folder)
    tokenizer = Tokenizer(models.WordLevel({word: place for place, word in enumerate(vocabulary)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]"
    ).save_pretrained(folder)
    return folder


def draw_examples(count: int, seed: int = 0, classes: tuple[str, ...] = tuple(WORDS)) -> tuple[list[str], list[str]]:
    """`count` different texts of each class, and their labels."""
    generator = torch.Generator().manual_seed(seed)
    rows: dict[str, str] = {}
    for name in classes:
        wanted = len(rows) + count
        while len(rows) < wanted:
            picks = torch.randint(5, (3,), generator=generator).tolist()
            fill = torch.randint(len(FILLING), (3,), generator=generator).tolist()
            words = [*(WORDS[name][pick] for pick in picks), *(FILLING[pick] for pick in fill)]
            order = torch.randperm(len(words), generator=generator).tolist()
            rows.setdefault(" ".join(words[place] for place in order), name)
    return list(rows), list(rows.values())


@pytest.fixture(scope="session")
def base(tmp_path_factory):
    """The folder of the tiny encoder."""
    return str(write_base(tmp_path_factory.mktemp("base") / "tiny"))


@pytest.fixture(scope="session")
def other_base(tmp_path_factory):
    """Another one of the same shape."""
    return str(write_base(tmp_path_factory.mktemp("base") / "tiny", seed=1))


@pytest.fixture(scope="session")
def draw():
    """`draw_examples`."""
    return draw_examples
