"""What writes is told from what does not by the configuration alone."""

import pytest
from language_models import CONFIGS, write_language_model
from transformers import AutoTokenizer, BertConfig, BertModel

from quickstudy.backbones import CausalLM
from quickstudy.backbones.kinds import is_language_model


@pytest.mark.parametrize("kind", list(CONFIGS))
def test_language_models(tmp_path, kind):
    folder = write_language_model(tmp_path / kind, kind)
    assert is_language_model(str(folder))
    linears = CausalLM(str(folder)).linears
    assert linears
    assert not {"lm_head", "embed_out"} & set(linears)


def test_others(tmp_path):
    BertModel(BertConfig(num_hidden_layers=1, hidden_size=12)).save_pretrained(tmp_path / "bert")
    assert not is_language_model(str(tmp_path / "bert"))
    assert not is_language_model("minilm")
    assert not is_language_model("no/such/model")


@pytest.mark.parametrize("bits", ["", "8bit"])
def test_linears_do_not_go_by_width(tmp_path, bits):
    """The tiny models have as many tokens as activations: a layer of that width is one all the same."""
    folder = write_language_model(tmp_path / "llama", "llama")
    assert len(AutoTokenizer.from_pretrained(folder)) == 32
    found = CausalLM(str(folder), quantised=bits).linears
    assert found == ("down_proj", "gate_proj", "k_proj", "o_proj", "q_proj", "up_proj", "v_proj")
