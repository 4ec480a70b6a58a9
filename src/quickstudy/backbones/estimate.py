"""What a text encoder costs, before and after it is loaded."""

from __future__ import annotations

import json
import math
import time
from dataclasses import dataclass
from pathlib import Path

from quickstudy.backbones.pretrained import source_of
from quickstudy.backbones.text_encoder import TextEncoder
from quickstudy.core.errors import NotAvailable


@dataclass(frozen=True)
class Footprint:
    """The size of an encoder.

    Attributes:
        parameters: how many numbers its files hold.
        bytes: the size of its weight files, about the memory it takes.
    """

    parameters: int
    bytes: int


def footprint(encoder: TextEncoder) -> Footprint:
    """Parameters and bytes, read from the headers of the weight files; nothing is loaded or downloaded.

    Raises:
        NotAvailable: the encoder is a hub name, or its folder holds no safetensors file.
    """
    folder = Path(source_of(encoder.name))
    files = sorted(folder.glob("*.safetensors")) if folder.is_dir() else []
    if not files:
        raise NotAvailable(
            f"the size of {encoder.name!r} is not known without its files: give 'minilm' or a folder that holds "
            "safetensors weights"
        )
    return Footprint(sum(_parameters(file) for file in files), sum(file.stat().st_size for file in files))


def seconds_per_100_texts(encoder: TextEncoder) -> float:
    """Seconds in which `embed` answers 100 short texts on this machine now, the loading not counted."""
    texts = [f"where is card number {number}, and when will it arrive?" for number in range(100)]
    encoder.embed(texts[:4])
    begin = time.perf_counter()
    encoder.embed(texts)
    return time.perf_counter() - begin


def _parameters(file: Path) -> int:
    with file.open("rb") as stream:
        header = json.loads(stream.read(int.from_bytes(stream.read(8), "little")))
    return sum(math.prod(entry["shape"]) for name, entry in header.items() if name != "__metadata__")
