"""PEFT LoRAs of a decoder of Llama's layout and the configuration of their base; no model is needed."""

import json

import torch

from quickstudy.deltas import write_peft

SIZES = {
    "model_type": "llama",
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "intermediate_size": 48,
}
SHAPES = {
    "self_attn.q_proj": (32, 64),
    "self_attn.k_proj": (32, 32),
    "self_attn.v_proj": (32, 32),
    "self_attn.o_proj": (64, 32),
    "mlp.gate_proj": (32, 48),
    "mlp.up_proj": (32, 48),
    "mlp.down_proj": (48, 32),
}
"""Inputs and outputs."""


def write_base(folder, **entries):
    """The folder, with a `config.json` of `SIZES` and these entries."""
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(SIZES | entries))
    return folder


def write_lora(folder, lora, modules=tuple(SHAPES), layers=(0, 1, 2)):
    """The random matrices that the folder holds, by this package's names."""
    draws = torch.Generator().manual_seed(0)
    params = {}
    for layer in layers:
        for module in modules:
            inputs, outputs = SHAPES[module]
            name = f"model.model.layers.{layer}.{module}"
            params[f"{name}.lora_A"] = torch.randn(lora.rank, inputs, generator=draws)
            params[f"{name}.lora_B"] = torch.randn(outputs, lora.rank, generator=draws)
    write_peft(folder, params, lora, "tiny", "CAUSAL_LM")
    return params


def beside_nothing(lora, params, name, x):
    """What the LoRA beside the linear layer of this name adds for `x` [row, input]."""
    down, up = params[f"{name}.lora_A"], params[f"{name}.lora_B"]
    linear = torch.nn.Linear(down.shape[1], up.shape[0], bias=False)
    torch.nn.init.zeros_(linear.weight)
    module = lora.attach(torch.nn.ModuleDict({lora.targets[0]: linear}))[lora.targets[0]]
    with torch.no_grad():
        return torch.func.functional_call(module, {"lora_A": down, "lora_B": up}, (x,))
