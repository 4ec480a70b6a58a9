"""What `quickstudy estimate` says beforehand, beside the peaks of real runs in processes of their own.

Bases are Llama models with random weights; adapting is two steps of Adam on LoRA of rank 8 on q_proj and v_proj, tuning
two steps of AdamW on all weights, serving a prompt and one token with 20 adapters in memory. Each is measured with an
allocator that gives back what is freed, and as glibc is without settings. Nothing was fitted to these figures: the
estimate runs the same code on empty tensors. Linux only.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeAlias

from rich.console import Console
from rich.table import Table
from tokenizers import Tokenizer, models
from transformers import AutoModelForCausalLM, LlamaConfig, PreTrainedTokenizerFast
from transformers.utils import logging

from quickstudy.backbones.causal_shapes import CausalShapes
from quickstudy.deltas.lora import LoRA
from quickstudy.lifecycle.costs import Cost, Rows, adaptation, full_tuning, serving
from report import Options, device, options_from, versions

PROCESS = Path(__file__).parent / "peak_process.py"
GIVES_BACK = {"MALLOC_MMAP_THRESHOLD_": "65536"}
Measured: TypeAlias = dict[str, Any]
ADAPTERS = 20
DELTA = LoRA(8, 16, ("q_proj", "v_proj"))
TINY = {"width": 16, "layers": 1, "vocabulary": 16}


@dataclass(frozen=True)
class Case:
    """What is run.

    Attributes:
        kind: "adaptation", "full_tuning" or "serving".
        width: of the base, whose heads have 64.
        layers: of the base.
        rows: computed together.
        tokens: of each, half of them asked about.
        dtype: of the weights.
        vocabulary: of the base.
        usual: whether to measure it without settings of the allocator too.
        recompute: whether layers compute their activations again.
    """

    kind: str
    width: int = 256
    layers: int = 6
    rows: int = 10
    tokens: int = 512
    dtype: str = "float32"
    vocabulary: int = 2048
    usual: bool = False
    recompute: bool = False


@dataclass(frozen=True)
class Found:
    """Bytes, and seconds of two steps on one thread.

    Attributes:
        case: what was run.
        estimated: the peak.
        measured: the same, where freed memory goes back at once.
        usual: measured without settings; None where it was not.
        seconds: as measured.
    """

    case: Case
    estimated: int
    measured: int
    usual: int | None
    seconds: float

    @property
    def ratio(self) -> float:
        """Estimated to measured."""
        return self.estimated / self.measured


def cases(quick: bool) -> list[Case]:
    """One of each kind, or all."""
    kinds = ("adaptation", "full_tuning", "serving")
    if quick:
        return [Case(kind, layers=2, rows=4, tokens=128, usual=True) for kind in kinds]
    sizes = [(256, 6), (512, 2), (512, 6)]
    rows = [(1, 128), (1, 512), (10, 128), (10, 512)]
    floats = [Case(kind, *size, *row, usual=size == sizes[0]) for kind in kinds for size in sizes for row in rows]
    again = [Case(kind, *sizes[0], 10, 512, recompute=True) for kind in kinds[:2]]
    return [*floats, *again, *(Case(kind, 256, 6, *row, "bfloat16") for kind in kinds for row in rows[1:])]


def write_base(folder: Path, width: int, layers: int, vocabulary: int) -> str:
    """A random Llama with tied embeddings and a tokeniser that nobody asks."""
    heads = max(1, width // 64)
    config = LlamaConfig(
        hidden_size=width,
        num_hidden_layers=layers,
        vocab_size=vocabulary,
        intermediate_size=width * 11 // 4,
        num_attention_heads=heads,
        num_key_value_heads=heads,
        tie_word_embeddings=True,
    )
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    words = {"</s>": 2, **{str(number): number for number in range(3, 10)}}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="</s>"))
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="</s>").save_pretrained(folder)
    return str(folder)


def estimated(case: Case, folder: str) -> Cost:
    """What the library says."""
    shapes, rows = CausalShapes(folder, case.dtype, case.recompute), Rows(case.rows, case.tokens, case.tokens // 2)
    match case.kind:
        case "adaptation":
            return adaptation(shapes, DELTA, rows)
        case "full_tuning":
            return full_tuning(shapes, rows)
        case _:
            return serving(shapes, DELTA, rows, ADAPTERS)


def measured(chosen: Sequence[Case], folders: Sequence[str], tiny: str, settings: dict[str, str]) -> list[Measured]:
    """For each case `peak` in bytes and `seconds`, of one process with these settings of its allocator."""
    specs = [
        {**asdict(case), "asked": case.tokens // 2, "adapters": ADAPTERS, "folder": folder}
        for case, folder in zip(chosen, folders, strict=True)
    ]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", **settings}
    command = [sys.executable, str(PROCESS), tiny, json.dumps(specs)]
    done = subprocess.run(command, check=True, env=environment, stdout=subprocess.PIPE, timeout=3600)
    return [json.loads(line) for line in done.stdout.splitlines()]


def compare(chosen: Sequence[Case], place: Path) -> list[Found]:
    """Each case estimated and measured; bases are written into `place`."""
    logging.disable_progress_bar()
    tiny = write_base(place / "tiny", **TINY)
    folders = []
    for case in chosen:
        folder = place / f"{case.width}-{case.layers}-{case.vocabulary}"
        if not folder.exists():
            write_base(folder, case.width, case.layers, case.vocabulary)
        folders.append(str(folder))
    tight = measured(chosen, folders, tiny, GIVES_BACK)
    # A process each: what one leaves in the heap would serve the next.
    usual = [
        measured([case], [folder], tiny, {})[0] if case.usual else None
        for case, folder in zip(chosen, folders, strict=True)
    ]
    told = [estimated(case, folder).peak for case, folder in zip(chosen, folders, strict=True)]
    return [
        Found(case, peak, one["peak"], None if other is None else other["peak"], one["seconds"])
        for case, peak, one, other in zip(chosen, told, tight, usual, strict=True)
    ]


def table_of(found: Sequence[Found]) -> Table:
    """For people; sizes in MiB."""
    table = Table("what", "base", "rows", "type", "estimated", "measured", "ratio", "glibc as it is")
    for each in found:
        case = each.case
        sizes = f"{each.estimated / 2**20:.0f}", f"{each.measured / 2**20:.0f}"
        base, rows = f"{case.layers} x {case.width}", f"{case.rows} x {case.tokens}"
        kind = f"{case.kind}, recomputed" if case.recompute else case.kind
        usual = "" if each.usual is None else f"{each.usual / 2**20:.0f}"
        table.add_row(kind, base, rows, case.dtype, *sizes, f"{each.ratio:.2f}", usual)
    return table


def record(found: Sequence[Found], options: Options) -> dict[str, Any]:
    """All of it, as JSON."""
    return {
        "name": "Memory estimated and measured",
        "device": device(),
        "threads": 1,
        "versions": versions(),
        "quick": options.quick,
        "worst": max(abs(each.ratio - 1) for each in found),
        "rows": [{**asdict(each), "ratio": each.ratio} for each in found],
    }


def main() -> None:
    """Prints the table; writes it where `--out` says."""
    options = options_from(description=__doc__)
    with tempfile.TemporaryDirectory() as place:
        found = compare(cases(options.quick), Path(place))
    Console(width=150).print(table_of(found))
    if options.out is not None:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(json.dumps(record(found, options), indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
