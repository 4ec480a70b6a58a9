"""What vLLM would refuse, or read wrongly, of a PEFT folder.

The rules are those of vLLM 0.33 (vllm/config/lora.py, vllm/lora/peft_helper.py, vllm/lora/lora_model.py).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from quickstudy.core.errors import InputError
from quickstudy.core.types import Json

CAPS = (1, 8, 16, 32, 64, 128, 256, 320, 512)
"""What `--max-lora-rank` may be."""

TARGETS = (
    *("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"),  # Llama, Mistral, Qwen, Gemma
    *("qkv_proj", "gate_up_proj"),  # Phi-3
    *("out_proj", "fc1", "fc2"),  # OPT
)
"""Ends of the names of the linear layers that it puts LoRA on, in the models that it knows best."""

_FIXES: dict[str, str] = {
    "ADALORA": "turn it into an ordinary LoRA with `as_lora` and write that",
    "PROMPT_TUNING": "train a LoRA instead, or serve it with another engine",
    "PREFIX_TUNING": "train a LoRA instead, or serve it with another engine",
}

_HEADS = ("classifier", "score")
_STARTS = ("gaussian", "eva", "orthogonal", "mica", "lora_ga")


def _other_layers(value: Json) -> bool:
    return bool(value) and not (isinstance(value, list) and all(name in _HEADS for name in value))


def _changes_the_base(value: Json) -> bool:
    return isinstance(value, str) and value.lower() not in _STARTS


_ENTRIES: tuple[tuple[str, Callable[[Json], bool], str], ...] = (
    ("use_dora", bool, "DoRA is not read: train with use_dora=False"),
    (
        "modules_to_save",
        _other_layers,
        "layers trained in full are not read: train without modules_to_save, or merge them",
    ),
    ("bias", lambda value: value != "none", 'trained biases are not read: train with bias="none"'),
    ("lora_bias", bool, "biases of the matrices are not read: train with lora_bias=False"),
    (
        "init_lora_weights",
        _changes_the_base,
        "this start changes the base, which vLLM does not: write it as a plain LoRA",
    ),
    ("alora_invocation_tokens", bool, "activated LoRA is not read: train without alora_invocation_tokens"),
    ("layer_replication", bool, "repeated layers are not read: train without layer_replication"),
    ("use_bdlora", bool, "block-diagonal matrices are not read: train with use_bdlora=None"),
    ("use_qalora", bool, "QALoRA is not read: train with use_qalora=False"),
    ("trainable_token_indices", bool, "trained tokens are not read: train without trainable_token_indices"),
)
"""Entry of the configuration, whether its value is a problem, and why with what to do."""


def vllm_problems(config: Mapping[str, Json], cap: int = 16) -> list[str]:
    """A sentence for each thing in an `adapter_config.json` that vLLM cannot serve, with what to do; none if it can.

    Args:
        config: as read from the file. Patterns of ranks and scales are no problem from vLLM 0.32 on; older versions
            ignore them.
        cap: the `--max-lora-rank` that vLLM is started with; 16 is its own default.

    Raises:
        InputError: vLLM takes no such cap.
    """
    if cap not in CAPS:
        raise InputError(f"cap is {cap}; vLLM takes {', '.join(map(str, CAPS))}")
    kind = config.get("peft_type")
    if kind != "LORA":
        return [f"peft_type is {kind!r}, and vLLM serves LORA only: {_FIXES.get(str(kind), 'train a LoRA')}"]
    found = [
        f"{name} is {config[name]!r}: {why}" for name, wrong, why in _ENTRIES if name in config and wrong(config[name])
    ]
    if not isinstance(config.get("lora_alpha"), int | float):
        found.append(f"lora_alpha is {config.get('lora_alpha')!r}: give a number")
    return [*_rank_problems(config, cap), *found, *_target_problems(config.get("target_modules"))]


def _rank_problems(config: Mapping[str, Json], cap: int) -> list[str]:
    patterns = config.get("rank_pattern")
    rank = 0
    for value in [config.get("r"), *(patterns.values() if isinstance(patterns, dict) else ())]:
        if not isinstance(value, int) or value < 1:
            return [f"r or an entry of rank_pattern is {value!r}: give a whole number from 1"]
        rank = max(rank, value)
    if rank <= cap:
        return []
    enough = next((other for other in CAPS if other >= rank), None)
    if enough is None:
        return [f"the rank is {rank}, and the largest is {CAPS[-1]}: train with a smaller one"]
    return [
        f"the rank is {rank}, above the cap of {cap}: start vLLM with --max-lora-rank {enough}, or train a smaller rank"
    ]


def _target_problems(targets: Json) -> list[str]:
    if not targets:
        return ["target_modules is empty: name the layers"]
    names = [] if isinstance(targets, str) else sorted({str(name).rpartition(".")[2] for name in targets})
    others = [name for name in names if name not in TARGETS]
    if not others:
        return []
    return [f"target_modules has {', '.join(others)}: vLLM puts LoRA on {', '.join(TARGETS)}; train on some of these"]
