"""The folder of mlx-lm computes what the LoRA does: by its matrices, and in mlx-lm where that is installed."""

import json
from pathlib import Path

import pytest
import torch
from decoder_loras import SHAPES, beside_nothing, write_base, write_lora
from safetensors.numpy import load_file

from quickstudy.backbones import CausalLM
from quickstudy.core.errors import InputError
from quickstudy.core.functional import Functional
from quickstudy.deltas import LoRA, write_mlx, write_peft


@pytest.mark.parametrize("rslora", [False, True])
def test_the_matrices_give_the_product_of_the_lora(rslora, tmp_path):
    lora = LoRA(4, 6, rslora=rslora)
    params = write_lora(tmp_path / "peft", lora)
    write_mlx(tmp_path / "peft", write_base(tmp_path / "base"), tmp_path / "mlx")
    tensors = load_file(tmp_path / "mlx" / "adapters.safetensors")
    config = json.loads((tmp_path / "mlx" / "adapter_config.json").read_text())
    assert len(tensors) == len(params)
    for layer in range(3):
        for module, (inputs, _) in SHAPES.items():
            x = torch.randn(5, inputs, generator=torch.Generator().manual_seed(1))
            name = f"model.layers.{layer}.{module}"
            found = config["lora_parameters"]["scale"] * (
                x.numpy() @ tensors[f"{name}.lora_a"] @ tensors[f"{name}.lora_b"]
            )
            expected = beside_nothing(lora, params, f"model.{name}", x)
            torch.testing.assert_close(torch.from_numpy(found), expected, rtol=1e-4, atol=1e-4)


def test_the_settings_name_the_adapted_layers(tmp_path):
    write_lora(tmp_path / "peft", LoRA(2), ("self_attn.q_proj", "mlp.up_proj"), (1, 2))
    write_mlx(tmp_path / "peft", write_base(tmp_path / "base", num_hidden_layers=7), tmp_path / "mlx")
    config = json.loads((tmp_path / "mlx" / "adapter_config.json").read_text())
    assert config["fine_tune_type"] == "lora"
    assert config["num_layers"] == 6  # counted from the last
    parameters = config["lora_parameters"]
    assert parameters == {"rank": 2, "scale": 8, "dropout": 0, "keys": ["mlp.up_proj", "self_attn.q_proj"]}


def test_replaces_its_own_folder_and_nothing_else(tmp_path):
    base = write_base(tmp_path / "base")
    write_lora(tmp_path / "peft", LoRA(2))
    write_mlx(tmp_path / "peft", base, tmp_path / "mlx")
    write_lora(tmp_path / "peft", LoRA(3))
    write_mlx(tmp_path / "peft", base, tmp_path / "mlx")
    assert json.loads((tmp_path / "mlx" / "adapter_config.json").read_text())["lora_parameters"]["rank"] == 3
    before = {path: path.read_bytes() for path in tmp_path.rglob("*.*") if path.is_file()}
    for taken in (tmp_path / "peft", base, base / "config.json"):
        with pytest.raises(InputError, match=r"would be lost|is not a folder"):
            write_mlx(tmp_path / "peft", base, taken)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*.*") if path.is_file()} == before


@pytest.mark.parametrize("layers", [None, (0,), (1,)])
@pytest.mark.parametrize("kind", ["llama", "mistral", "qwen3", "gemma2"])
def test_mlx_computes_what_we_do(kind, layers, language_model, tmp_path):
    mx = pytest.importorskip("mlx.core", reason="the optional package mlx is not installed")
    models = pytest.importorskip("mlx_lm.utils", reason="the optional package mlx-lm is not installed")
    mx.set_default_device(mx.cpu)
    base = language_model(kind)
    backbone = CausalLM(base)
    delta = LoRA(3, 5, ("q_proj", "k_proj", "v_proj", "o_proj", "up_proj", "down_proj"), layers, rslora=True)
    body = Functional(lambda: delta.attach(backbone.module()))
    draws = torch.Generator().manual_seed(0)
    start = delta.init(body.module(), {}, draws)
    params = {name: 0.3 * torch.randn(tensor.shape, generator=draws) for name, tensor in start.items()}
    write_peft(tmp_path / "peft", params, delta, base, "CAUSAL_LM")
    write_mlx(tmp_path / "peft", base, tmp_path / "mlx")
    ids = torch.tensor([[3, 9, 4, 12]])
    row = {"input_ids": ids, "segments": torch.ones_like(ids), "asked": torch.arange(1, 5)[None]}
    model = models.load_model(Path(base))[0]
    plain = torch.tensor(model(mx.array(ids.tolist())).tolist())
    torch.testing.assert_close(body(start, row), plain, atol=1e-4, rtol=1e-4)
    adapted = models.load_adapters(model, str(tmp_path / "mlx"))
    adapted.eval()
    found = torch.tensor(adapted(mx.array(ids.tolist())).tolist())
    torch.testing.assert_close(body(params, row), found, atol=1e-4, rtol=1e-4)
    assert not torch.allclose(plain, found, atol=1e-2)
