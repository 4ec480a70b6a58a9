"""Prompts and completions to tokens and back, as all language models do it."""

from __future__ import annotations

from collections.abc import Sequence

from quickstudy.backbones.encoder_module import ATTENTIONS
from quickstudy.backbones.precision import DTYPES
from quickstudy.backbones.pretrained import Base
from quickstudy.backbones.quantised import QUANTISED
from quickstudy.core.errors import InputError


def end_token(base: Base) -> int:
    """The token that ends a text.

    Raises:
        InputError: the tokeniser has none.
    """
    token = base.tokenizer.eos_token_id
    if token is None:
        raise InputError(f"the tokeniser of {base.fingerprint.name!r} has no end-of-text token; set its eos_token")
    return int(token)


def prompt_rows(base: Base, prompts: Sequence[str], chat: bool = False) -> list[list[int]]:
    """The tokens of each prompt, with those that the tokeniser, or its chat template, puts around it.

    Raises:
        InputError: a prompt has no token, or there is no chat template.
    """
    with base.lock:
        if chat:
            rows = [_chat_tokens(base, prompt) for prompt in prompts]
        else:
            rows = base.tokenizer(list(prompts), verbose=False)["input_ids"]
    for number, row in enumerate(rows):
        if not row:
            raise InputError(f"prompt {number} has no token; give it a text")
    return [list(row) for row in rows]


def completion_rows(base: Base, completions: Sequence[str]) -> list[list[int]]:
    """The tokens of each completion and its end."""
    end = end_token(base)
    with base.lock:
        rows = base.tokenizer(text_target=list(completions), add_special_tokens=False, verbose=False)["input_ids"]
    return [[*row, end] for row in rows]


def text_of(base: Base, tokens: Sequence[int]) -> str:
    """What `tokens` say, without special ones."""
    with base.lock:
        return str(base.tokenizer.decode(list(tokens), skip_special_tokens=True))


def check_fields(attention: str, dtype: str, max_tokens: int, quantised: str = "") -> None:
    """Fields of a language model.

    Raises:
        ValueError: one has no meaning.
    """
    fields: tuple[tuple[str, str, tuple[str, ...]], ...] = (
        ("attention", attention, ATTENTIONS),
        ("dtype", dtype, (*DTYPES,)),
        ("quantised", quantised, QUANTISED),
    )
    for field, value, allowed in fields:
        if value not in allowed:
            raise ValueError(f"{field} is {value!r}; expected one of {', '.join(each or repr('') for each in allowed)}")
    if max_tokens < 2:
        raise ValueError(f"max_tokens is {max_tokens}; expected at least 2")


def check_pairs(prompts: Sequence[str], completions: Sequence[str]) -> None:
    """As many prompts as completions, at least one.

    Raises:
        InputError: it is not so.
    """
    if not prompts or len(prompts) != len(completions):
        raise InputError(f"{len(prompts)} prompts and {len(completions)} completions were given; expected as many")


def _chat_tokens(base: Base, prompt: str) -> list[int]:
    if not base.tokenizer.chat_template:
        raise InputError(f"the tokeniser of {base.fingerprint.name!r} has no chat template; give chat=False")
    message = [{"role": "user", "content": prompt}]
    tokens: list[int] = base.tokenizer.apply_chat_template(message, add_generation_prompt=True, return_dict=False)
    return tokens
