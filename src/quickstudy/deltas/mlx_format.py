"""LoRA for Apple's mlx-lm: the folder that its `load(..., adapter_path=...)` and `--adapter-path` take."""

from __future__ import annotations

from pathlib import Path

from quickstudy.core.files import atomic_folder, write_json, write_tensors
from quickstudy.core.types import Json
from quickstudy.deltas.decoder_lora import DecoderLora, read_decoder_lora

CONFIG = "adapter_config.json"
WEIGHTS = "adapters.safetensors"


def write_mlx(peft_folder: Path | str, base_folder: Path | str, out: Path | str) -> None:
    """Writes the LoRA in `peft_folder` as a folder that mlx-lm 0.32 loads on the same base, whole or not at all.

    The matrices are transposed, `lora_a` [input, rank] and `lora_b` [rank, output], and the scale is that of PEFT.
    mlx-lm puts LoRA on the same linear layers of all layers from the first adapted one; where the adapter has none,
    its own start computes nothing.

    Args:
        peft_folder: a LoRA as PEFT or `write_peft` writes it.
        base_folder: holds the `config.json` of the base as transformers keeps it. mlx-lm loads this base, or a
            conversion of it, quantised ones included.
        out: made, or replaced where it holds such a folder already.

    Raises:
        NotAvailable: the base is not a Llama, Mistral, Qwen2, Qwen3 or Gemma.
        FileRefused: as `read_decoder_lora`.
        InputError: the folder cannot be written, or holds files of others.
    """
    found = read_decoder_lora(peft_folder, base_folder, "its layers have other names in mlx-lm; train with mlx-lm")
    tensors = {}
    for product in found.products:
        name = f"model.layers.{product.layer}.{product.module}"
        tensors[f"{name}.lora_a"] = product.down.T
        tensors[f"{name}.lora_b"] = product.up.T
    with atomic_folder(out) as place:
        write_tensors(place / WEIGHTS, tensors, {"format": "mlx"})
        write_json(place / CONFIG, _config(found))


def _config(found: DecoderLora) -> dict[str, Json]:
    keys: list[Json] = [*sorted({product.module for product in found.products})]
    return {
        "fine_tune_type": "lora",
        "num_layers": found.layers - min(product.layer for product in found.products),
        "lora_parameters": {"rank": found.lora.rank, "scale": found.lora.scale, "dropout": 0.0, "keys": keys},
    }
