"""An adapter as other programs take it."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType

from quickstudy.core.errors import InputError
from quickstudy.core.files import read_json
from quickstudy.core.types import Json
from quickstudy.deltas.gguf_format import write_gguf
from quickstudy.deltas.mlx_format import write_mlx
from quickstudy.deltas.peft_folder import CONFIG
from quickstudy.deltas.vllm import vllm_problems
from quickstudy.lifecycle.classifier import FewShotClassifier
from quickstudy.lifecycle.writer import FewShotWriter
from quickstudy.lifecycle.writing_files import holds_writer
from quickstudy.lifecycle.writing_methods import language_model_of

FORMATS = ("peft", "gguf", "mlx")

_CONVERTERS: Mapping[str, Callable[[Path, Path, Path], None]] = MappingProxyType({"gguf": write_gguf, "mlx": write_mlx})
"""Format -> what writes it, of a PEFT folder, the base's folder and the place."""


def export_adapter(folder: Path, form: str, out: Path, base: str | None = None, cap: int = 16) -> Json:
    """What was written, as JSON; `vllm` lists what vLLM would refuse of a PEFT folder of a language model.

    Args:
        folder: the adapter.
        form: one of `FORMATS`.
        out: the folder, or for "gguf" the file, that is written.
        base: where the base lies now, if it was moved.
        cap: the `--max-lora-rank` that vLLM is started with.

    Raises:
        InputError: an unknown format; the adapter has no LoRA matrices, or is none of a language model, for which the
            other formats are; `out` cannot be written.
        NotAvailable: the base is not here, or the format's package is not.
        FileRefused: a file of the adapter is missing or damaged.
    """
    if form not in FORMATS:
        raise InputError(f"there is no format {form!r}; give one of {', '.join(FORMATS)}")
    report: Json = {"adapter": str(folder), "format": form, "out": str(out)}
    if not holds_writer(folder):
        if form != "peft":
            raise InputError(f"{folder}: is the adapter of a text encoder, which {form} is not for; give --format peft")
        FewShotClassifier.load(folder, base).to_peft(out)
        return report
    writer = FewShotWriter.load(folder, base)
    place = Path(language_model_of(writer.base).name)
    if form != "peft" and not (place / "config.json").is_file():
        raise InputError(f"the base {str(place)!r} is no folder, and its config.json is needed; give it as --base")
    with tempfile.TemporaryDirectory() as between:
        made = Path(between) / "peft"
        writer.to_peft(made)
        if form != "peft":
            _CONVERTERS[form](made, place, out)
            return report
        problems = vllm_problems(read_json(made / CONFIG), cap)
    writer.to_peft(out)
    return {**report, "vllm": problems}
