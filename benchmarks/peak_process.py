"""Computations on real bases, one after the other: how much the resident memory grew, and how long each took.

Called with the folder of a tiny causal model and a JSON list of what to run: `folder` of a base with its tokeniser,
`kind`, `dtype`, `recompute`, `rows`, `tokens`, `asked`, `adapters`. Prints a line of JSON for each. The tiny model is
run first, so that what is imported on the way is there.
"""

from __future__ import annotations

import ctypes
import gc
import json
import sys
import time
from pathlib import Path
from typing import Any

import torch

from quickstudy.backbones import pretrained
from quickstudy.backbones.causal_lm import CausalLM
from quickstudy.core.inner import InnerLoop
from quickstudy.core.optimisers import Adam
from quickstudy.core.types import Batch
from quickstudy.deltas.lora import LoRA
from quickstudy.learners.losses import weighted_loss
from quickstudy.learners.network import Network
from quickstudy.learners.optimisation.maml import MAML

DELTA = LoRA(8, 16, ("q_proj", "v_proj"))
STEPS = 2


def batch_of(spec: dict[str, Any]) -> Batch:
    """Examples of the tokens 3 to 9, of which the last ones are asked about."""
    tokens, asked = spec["tokens"], spec["asked"]
    ids = torch.arange(spec["rows"] * tokens).reshape(-1, tokens) % 7 + 3
    places = torch.arange(tokens - asked, tokens).repeat(len(ids), 1)
    inputs = {"input_ids": ids, "segments": torch.ones_like(ids), "asked": places}
    return Batch(inputs, ids[:, -asked:].clone(), torch.ones(len(ids)))


def base_of(folder: str, spec: dict[str, Any]) -> CausalLM:
    """The base in `folder` as the spec wants it."""
    return CausalLM(folder, dtype=spec["dtype"], recompute=spec["recompute"])


def adapt(base: CausalLM, spec: dict[str, Any]) -> None:
    """Steps of Adam on LoRA matrices, all rows together."""
    learner = MAML(Network(base, DELTA), InnerLoop(STEPS, Adam(), clip=1.0, order="first"))
    learner.adapt(learner.init(torch.Generator()), batch_of(spec))


def tune(base: CausalLM, spec: dict[str, Any]) -> None:
    """Steps of AdamW on all weights, all rows together."""
    module, batch = base.module().requires_grad_(True), batch_of(spec)
    optimiser = torch.optim.AdamW(module.parameters())
    for _ in range(STEPS):
        optimiser.zero_grad()
        weighted_loss(module(batch.inputs), batch).backward()  # type: ignore[no-untyped-call] # torch's own
        optimiser.step()


@torch.no_grad()
def serve(base: CausalLM, spec: dict[str, Any]) -> None:
    """Many adapters in memory, a prompt with one of them in each row, and one token after it."""
    network, generator = Network(base, DELTA), torch.Generator()
    held = [network.init(generator) for _ in range(spec["adapters"])]
    rows = [held[number % len(held)] for number in range(spec["rows"])]
    params = {name: torch.stack([row[name] for row in rows]) for name in held[0]}
    inputs = batch_of({**spec, "tokens": spec["tokens"] - 1, "asked": 1}).inputs
    assert isinstance(inputs, dict)
    cache = base.new_cache()
    token = network.features(params, inputs, cache).argmax(-1)
    network.features(params, base.after(inputs, token), cache)


KINDS = {"adaptation": adapt, "full_tuning": tune, "serving": serve}


def status(field: str) -> int:
    """Bytes, as Linux says."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{field}:")) * 1024


def measure(spec: dict[str, Any]) -> None:
    """Runs one and prints what it took."""
    pretrained._load.cache_clear()
    gc.collect()
    ctypes.CDLL("libc.so.6").malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # the highest resident size begins anew
    before = status("VmRSS")
    began = time.perf_counter()
    KINDS[spec["kind"]](base_of(spec["folder"], spec), spec)
    print(json.dumps({"peak": status("VmHWM") - before, "seconds": time.perf_counter() - began}), flush=True)


def main() -> None:
    """Runs them."""
    tiny, specs = sys.argv[1], json.loads(sys.argv[2])
    torch.set_num_threads(1)
    for spec in specs:
        small = {**spec, "rows": 2, "tokens": 8, "asked": 4, "adapters": 2}
        KINDS[spec["kind"]](base_of(tiny, small), small)
    for spec in specs:
        measure(spec)


if __name__ == "__main__":
    main()
