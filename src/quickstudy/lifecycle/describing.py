"""What is in an adapter folder."""

from __future__ import annotations

from pathlib import Path

from quickstudy.core.adapter_files import TENSORS, load_adapter
from quickstudy.core.types import Json
from quickstudy.lifecycle.adapter_folders import EXAMPLES


def describe_adapter(folder: Path) -> Json:
    """Facts and figures of the adapter in `folder`, as JSON. The base is not loaded.

    Raises:
        FileRefused: a file is missing or damaged.
    """
    adapter = load_adapter(folder)
    facts = dict(adapter.facts)
    choices = facts.get("choices") or {}
    return {
        "name": folder.name,
        "folder": str(folder),
        "method": choices.get("method", adapter.learner),
        "learner": adapter.learner,
        "base": None if adapter.base is None else adapter.base.name,
        "base_digest": None if adapter.base is None else adapter.base.digest,
        "labels": list(adapter.labels),
        "class_names": facts.get("class_names"),
        "unknown": choices.get("unknown"),
        "temperature": facts.get("temperature"),
        "threshold": facts.get("threshold"),
        "scope": facts.get("scope"),
        "metrics": dict(adapter.metrics),
        "tensors": {name: " x ".join(map(str, tensor.shape)) for name, tensor in adapter.tensors.items()},
        "bytes": (folder / TENSORS).stat().st_size,
        "examples_kept": (folder / EXAMPLES).is_file(),
        "support_hash": adapter.support_hash,
        "parent": adapter.parent,
    }
