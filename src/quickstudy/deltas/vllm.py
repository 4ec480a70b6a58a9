"""What vLLM would refuse, or read wrongly, of a PEFT folder."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from quickstudy.core.types import Json

CAPS = (8, 16, 32, 64, 128, 256, 320, 512)
"""What `--max-lora-rank` may be (vllm/config/lora.py)."""

TARGETS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
"""Ends of the names of the linear layers that it puts LoRA on in models such as Llama, Qwen, Mistral and Gemma."""

_FIXES: dict[str, str] = {
    "ADALORA": "turn it into an ordinary LoRA with `as_lora` and write that",
    "PROMPT_TUNING": "train a LoRA instead, or serve it with another engine",
    "PREFIX_TUNING": "train a LoRA instead, or serve it with another engine",
}

_ENTRIES: tuple[tuple[str, Callable[[Json], bool], str], ...] = (
    ("use_dora", bool, "DoRA is not read: train with use_dora=False"),
    ("modules_to_save", bool, "layers trained in full are not read: train without modules_to_save, or merge them"),
    ("bias", lambda value: value not in (None, "none"), 'trained biases are not read: train with bias="none"'),
    ("rank_pattern", bool, "it is ignored and one scale is used for all layers: fill all layers up to one rank"),
    ("alpha_pattern", bool, "it is ignored and one scale is used for all layers: multiply the scale into lora_B"),
)
"""Entry of the configuration, whether its value is a problem, and why with what to do."""


def vllm_problems(config: Mapping[str, Json], cap: int = 16) -> list[str]:
    """A sentence for each thing in an `adapter_config.json` that vLLM cannot serve, with what to do; none if it can.

    Args:
        config: as read from the file.
        cap: the `--max-lora-rank` that vLLM is started with; 16 is its own default.

    Raises:
        ValueError: vLLM takes no such cap.
    """
    if cap not in CAPS:
        raise ValueError(f"cap is {cap}; vLLM takes {', '.join(map(str, CAPS))}")
    kind = config.get("peft_type")
    if kind != "LORA":
        return [f"peft_type is {kind!r}, and vLLM serves LORA only: {_FIXES.get(str(kind), 'train a LoRA')}"]
    found = [f"{name} is {config[name]!r}: {why}" for name, wrong, why in _ENTRIES if wrong(config.get(name))]
    return [*_rank_problems(config.get("r"), cap), *found, *_target_problems(config.get("target_modules"))]


def _rank_problems(rank: Json, cap: int) -> list[str]:
    if not isinstance(rank, int) or rank < 1:
        return [f"r is {rank!r}: give a whole number from 1"]
    if rank <= cap:
        return []
    enough = next((other for other in CAPS if other >= rank), None)
    if enough is None:
        return [f"r is {rank}, and the largest rank is {CAPS[-1]}: train with a smaller one"]
    return [f"r is {rank}, above the cap of {cap}: start vLLM with --max-lora-rank {enough}, or train a smaller rank"]


def _target_problems(targets: Json) -> list[str]:
    if not targets:
        return ["target_modules is empty: name the layers"]
    names = [] if isinstance(targets, str) else sorted({str(name).rpartition(".")[2] for name in targets})
    others = [name for name in names if name not in TARGETS]
    if not others:
        return []
    return [f"target_modules has {', '.join(others)}: vLLM puts LoRA on {', '.join(TARGETS)}; train on some of these"]
