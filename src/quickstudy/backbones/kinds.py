"""What kind of model a name means, from its configuration alone."""

from __future__ import annotations

from quickstudy.backbones.pretrained import source_of
from quickstudy.core.errors import NotAvailable


def is_language_model(name: str) -> bool:
    """Whether the model writes texts; False too where there is no such model, which loading it will say."""
    from transformers import AutoConfig

    try:
        config = AutoConfig.from_pretrained(source_of(name))
    except (OSError, ValueError, KeyError, NotAvailable):
        return False
    return any(architecture.endswith(("ForCausalLM", "LMHeadModel")) for architecture in config.architectures or ())
