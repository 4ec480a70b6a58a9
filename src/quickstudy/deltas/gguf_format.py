"""LoRA for llama.cpp: the GGUF file that its `--lora` takes."""

from __future__ import annotations

import errno
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

from torch import Tensor

from quickstudy.core.errors import FileRefused, InputError, NotAvailable
from quickstudy.core.files import atomic_file
from quickstudy.deltas.decoder_lora import DecoderLora, Product, read_decoder_lora
from quickstudy.deltas.peft_folder import CONFIG, UNSUPPORTED

if TYPE_CHECKING:
    from gguf import GGUFWriter

_ARCHITECTURES = {
    "llama": "llama",
    "mistral": "llama",
    "qwen2": "qwen2",
    "qwen3": "qwen3",
    "gemma": "gemma",
    "gemma2": "gemma2",
    "gemma3_text": "gemma3",
}
"""The base's `model_type` -> llama.cpp's word for its architecture."""


def write_gguf(peft_folder: Path | str, base_folder: Path | str, out: Path | str) -> None:
    """Writes the LoRA in `peft_folder` as a GGUF file that llama.cpp loads beside its own file of the base.

    The matrices are float32. llama.cpp scales by alpha / rank, so the alpha of rsLoRA is written multiplied by the
    square root of the rank. In models of its architecture llama it rotates neighbours where transformers rotates
    halves, and the outputs of queries and keys are put in that order.

    Args:
        peft_folder: a LoRA as PEFT or `write_peft` writes it.
        base_folder: holds the `config.json` of the base as transformers keeps it.
        out: the file; an adapter that is there is replaced.

    Raises:
        NotAvailable: the package gguf is missing, or the base is not a Llama, Mistral, Qwen2, Qwen3 or Gemma.
        FileRefused: as `read_decoder_lora`; also `unsupported` for an alpha of 0.
        InputError: the file cannot be written, or another file is there.
    """
    try:
        from gguf import GGUFWriter
    except ImportError as error:
        raise NotAvailable("GGUF is written by the package gguf: run `pip install 'quickstudy[gguf]'`") from error
    found = read_decoder_lora(
        peft_folder, base_folder, "convert_lora_to_gguf.py of llama.cpp takes the PEFT folder as it is"
    )
    if found.lora.alpha == 0:
        message = "has lora_alpha = 0, by which nothing is added; llama.cpp reads 0 as a scale of 1: nothing to export"
        raise FileRefused(Path(peft_folder) / CONFIG, UNSUPPORTED, message)
    _check_replaceable(Path(out))
    with atomic_file(out) as place:
        with closing(GGUFWriter(place, _ARCHITECTURES[found.kind])) as writer:
            _fill(writer, found)
            writer.write_header_to_file()
            writer.write_kv_data_to_file()
            writer.write_tensors_to_file()
        _check_whole(place)


def _fill(writer: GGUFWriter, found: DecoderLora) -> None:
    from gguf import MODEL_ARCH, MODEL_ARCH_NAMES, GGUFType, Keys, LlamaFileType, get_tensor_name_map

    writer.add_type(GGUFType.ADAPTER)
    writer.add_file_type(LlamaFileType.ALL_F32)
    writer.add_string(Keys.Adapter.TYPE, "lora")
    writer.add_float32(Keys.Adapter.LORA_ALPHA, found.lora.scale * found.lora.rank)
    architecture = next(arch for arch in MODEL_ARCH if MODEL_ARCH_NAMES[arch] == _ARCHITECTURES[found.kind])
    names = get_tensor_name_map(architecture, found.layers)
    for product in found.products:
        name = names.get_name(f"model.layers.{product.layer}.{product.module}")
        writer.add_tensor(f"{name}.weight.lora_a", product.down.numpy())
        writer.add_tensor(f"{name}.weight.lora_b", _up(found, product).contiguous().numpy())


def _up(found: DecoderLora, product: Product) -> Tensor:
    """[output, rank] with the outputs in llama.cpp's order."""
    turned = {"self_attn.q_proj": found.heads, "self_attn.k_proj": found.key_heads}
    if _ARCHITECTURES[found.kind] != "llama" or product.module not in turned:
        return product.up
    halves = product.up.reshape(turned[product.module], 2, -1, found.lora.rank)
    return halves.transpose(1, 2).reshape(product.up.shape)


def _check_whole(path: Path) -> None:
    """The writer does not notice a full disk, and leaves a file that is too short."""
    from gguf import GGUFReader

    try:
        GGUFReader(path)
    except (ValueError, IndexError) as error:
        raise OSError(errno.ENOSPC, "the file is too short") from error


def _check_replaceable(path: Path) -> None:
    from gguf import GGUFReader, GGUFType, Keys

    if not path.exists():
        return
    try:
        kind = GGUFReader(path).get_field(Keys.General.TYPE)
        adapter = kind is not None and kind.contents() == GGUFType.ADAPTER
    except (ValueError, IndexError, OSError):
        adapter = False
    if not adapter:
        raise InputError(f"{path}: is there and is not an adapter in GGUF, so it would be lost; choose another name")
