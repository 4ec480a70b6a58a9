"""What all tests share: one thread, and the folder of real data where there is one."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
import torch


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    """Sums in one order, and no fight for the cores."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session", autouse=True)
def interruptible() -> None:
    """Ctrl-C reaches child processes also where the tests run in the background, which ignores it."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def language_model(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], str]:
    """Type of model -> folder that holds a tiny causal language model."""

    @cache
    def folder(kind: str) -> str:
        from language_models import write_language_model

        return str(write_language_model(tmp_path_factory.mktemp(kind), kind))

    return folder


@pytest.fixture(scope="session")
def encoder_decoder(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], str]:
    """Type of model -> folder that holds a tiny encoder-decoder."""

    @cache
    def folder(kind: str) -> str:
        from encoder_decoders import write_encoder_decoder

        return str(write_encoder_decoder(tmp_path_factory.mktemp(kind), kind))

    return folder


@pytest.fixture(scope="session")
def data_folder() -> Path:
    """The folder of real data, which the environment variable QUICKSTUDY_DATA names."""
    named = os.environ.get("QUICKSTUDY_DATA", "")
    if not named:
        pytest.skip("QUICKSTUDY_DATA is not set; it names the folder of real data")
    folder = Path(named)
    if not folder.is_dir():
        pytest.fail(f"QUICKSTUDY_DATA is {named}, which is no folder")
    return folder
