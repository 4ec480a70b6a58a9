"""A PEFT LoRA of a decoder of Llama's layout, held against its base: what the writers of other formats begin with."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from quickstudy.core.errors import FileRefused, NotAvailable
from quickstudy.core.files import read_json
from quickstudy.core.types import Json
from quickstudy.deltas.lora import LoRA, downs_of, up_of
from quickstudy.deltas.peft_folder import CONFIG, UNSUPPORTED, WEIGHTS
from quickstudy.deltas.peft_format import read_peft

KINDS = ("llama", "mistral", "qwen2", "qwen3", "gemma", "gemma2", "gemma3_text")
"""The `model_type` of the bases whose layers have the names and shapes of Llama's."""

_NAME = re.compile(r"model\.model\.layers\.(\d+)\.(\w+\.\w+)\.lora_A")


@dataclass(frozen=True)
class Product:
    """The two matrices beside a linear layer.

    Attributes:
        layer: number of the decoder's layer, from 0.
        module: name of the linear layer in it, such as `self_attn.q_proj`.
        down: [rank, input], PEFT's A.
        up: [output, rank], PEFT's B.
    """

    layer: int
    module: str
    down: Tensor
    up: Tensor


@dataclass(frozen=True)
class DecoderLora:
    """An adapter and what must be known of its base.

    Attributes:
        kind: the base's `model_type`.
        layers: how many layers the base has.
        heads: how many heads its queries have.
        key_heads: how many its keys and values have.
        lora: rank and scale.
        products: by layer and name.
    """

    kind: str
    layers: int
    heads: int
    key_heads: int
    lora: LoRA
    products: tuple[Product, ...]


def read_decoder_lora(peft_folder: Path | str, base_folder: Path | str, otherwise: str) -> DecoderLora:
    """The adapter in `peft_folder`, held against the `config.json` in `base_folder`.

    Args:
        peft_folder: a LoRA as PEFT writes it.
        base_folder: where the base is; its weights are not read.
        otherwise: what to do for a base that is not of these kinds; ends the message.

    Raises:
        NotAvailable: the base is not one of `KINDS`.
        FileRefused: the folder is no plain LoRA or is damaged (as `read_peft`); `unsupported` where it is beside other
            linear layers than the attention's and the perceptron's, `wrong_base` where its shapes are not the base's.
    """
    place, base = Path(peft_folder), Path(base_folder) / "config.json"
    config = read_json(base)
    kind = config.get("model_type") if isinstance(config, dict) else None
    if not isinstance(config, dict) or kind not in KINDS:
        raise NotAvailable(f"{base}: has model_type {kind!r}; known are {', '.join(KINDS)}: {otherwise}")
    lora, params = read_peft(place)
    if not isinstance(lora, LoRA):
        message = f"is of {type(lora).__name__}; only a LoRA can be exported: AdaLoRA becomes one by `as_lora`"
        raise FileRefused(place / CONFIG, UNSUPPORTED, message)
    layers, heads = _whole(base, config, "num_hidden_layers"), _whole(base, config, "num_attention_heads")
    key_heads = _whole(base, config, "num_key_value_heads", heads)
    shapes = _shapes(base, config, heads, key_heads)
    products = []
    for name, down in downs_of(params).items():
        found = _NAME.fullmatch(name)
        if not found or found[2] not in shapes:
            message = f"holds {name!r}; only {', '.join(shapes)} of the layers can be exported: train on some of these"
            raise FileRefused(place / WEIGHTS, UNSUPPORTED, message)
        product = Product(int(found[1]), found[2], down, params[up_of(name)])
        _check(place / WEIGHTS, product, layers, shapes[product.module])
        products.append(product)
    products.sort(key=lambda product: (product.layer, product.module))
    return DecoderLora(str(kind), layers, heads, key_heads, lora, tuple(products))


def _whole(base: Path, config: dict[str, Json], name: str, default: int | None = None) -> int:
    value = config.get(name)
    value = default if value is None else value
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        message = f"has {name} = {value!r}, expected a whole number from 1; give the folder of the base"
        raise FileRefused(base, UNSUPPORTED, message)
    return value


def _shapes(base: Path, config: dict[str, Json], heads: int, key_heads: int) -> dict[str, tuple[int, int]]:
    """Name of a linear layer -> its inputs and outputs."""
    hidden, wide = _whole(base, config, "hidden_size"), _whole(base, config, "intermediate_size")
    each = _whole(base, config, "head_dim", hidden // heads)
    return {
        "self_attn.q_proj": (hidden, heads * each),
        "self_attn.k_proj": (hidden, key_heads * each),
        "self_attn.v_proj": (hidden, key_heads * each),
        "self_attn.o_proj": (heads * each, hidden),
        "mlp.gate_proj": (hidden, wide),
        "mlp.up_proj": (hidden, wide),
        "mlp.down_proj": (wide, hidden),
    }


def _check(path: Path, product: Product, layers: int, wanted: tuple[int, int]) -> None:
    found = product.down.shape[1], product.up.shape[0]
    if product.layer >= layers or found != wanted:
        message = (
            f"has {found[0]} inputs and {found[1]} outputs for {product.module} of layer {product.layer}, but the base "
            f"has {layers} layers, in which that has {wanted[0]} and {wanted[1]}; give the base that it was made for"
        )
        raise FileRefused(path, "wrong_base", message)
