"""Few-shot adaptation of language models: meta-train once, adapt from a handful of examples, use the adapters.

The names below are what most programs need. Each is imported when it is first used, so that `import quickstudy` is
quick; everything else is in the packages `core`, `tasks`, `backbones`, `deltas`, `training`, `learners`, `evaluation`
and `lifecycle`.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from quickstudy.version import VERSION

if TYPE_CHECKING:
    from quickstudy.backbones import CausalLM as CausalLM
    from quickstudy.backbones import TextEncoder as TextEncoder
    from quickstudy.core import Adapter as Adapter
    from quickstudy.core import Batch as Batch
    from quickstudy.core import Episode as Episode
    from quickstudy.core import Prediction as Prediction
    from quickstudy.core.errors import QuickstudyError as QuickstudyError
    from quickstudy.deltas import LoRA as LoRA
    from quickstudy.evaluation import evaluate as evaluate
    from quickstudy.learners import Learner as Learner
    from quickstudy.learners import Network as Network
    from quickstudy.learners import learner_class as learner_class
    from quickstudy.learners import learner_names as learner_names
    from quickstudy.lifecycle.classifier import FewShotClassifier as FewShotClassifier
    from quickstudy.lifecycle.writer import FewShotWriter as FewShotWriter
    from quickstudy.tasks import Table as Table
    from quickstudy.tasks import TableTasks as TableTasks
    from quickstudy.tasks import read_table as read_table
    from quickstudy.training import FitOptions as FitOptions
    from quickstudy.training import fit as fit

_HOMES = {
    "Adapter": "core",
    "Batch": "core",
    "CausalLM": "backbones",
    "Episode": "core",
    "FewShotClassifier": "lifecycle.classifier",
    "FewShotWriter": "lifecycle.writer",
    "FitOptions": "training",
    "Learner": "learners",
    "LoRA": "deltas",
    "Network": "learners",
    "Prediction": "core",
    "QuickstudyError": "core.errors",
    "Table": "tasks",
    "TableTasks": "tasks",
    "TextEncoder": "backbones",
    "evaluate": "evaluation",
    "fit": "training",
    "learner_class": "learners",
    "learner_names": "learners",
    "read_table": "tasks",
}
__version__ = VERSION
__all__ = ["__version__", *_HOMES]  # noqa: PLE0604 - the names are strings, which ruff cannot see through the star


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'quickstudy' has no attribute {name!r}")
    return getattr(import_module(f"quickstudy.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
