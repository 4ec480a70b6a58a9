"""Meta-training a language model's adapters on a folder of files of prompts and completions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from quickstudy.backbones.causal_lm import CausalLM
from quickstudy.core.errors import InputError
from quickstudy.core.types import Json
from quickstudy.deltas.lora import LoRA
from quickstudy.lifecycle.meta_training import Going, data_files, run_place, trackers_for
from quickstudy.lifecycle.writing_methods import WritingSpec, build_writing
from quickstudy.lifecycle.writing_start import WritingStart, save_writing_start
from quickstudy.tasks.pair_folder import PairFolder
from quickstudy.tasks.text_tasks import EncodedTextTasks
from quickstudy.training.loop import fit
from quickstudy.training.options import FitOptions

LEARNERS = ("maml", "reptile", "meta_sgd", "tuned_demonstrations", "hyper_lora", "demonstrations")
"""What can be trained: a start of gradient steps, that with rates, a start of steps on examples that are read in
context, what writes the matrices, and matrices for reading examples in context (MetaICL: Min et al., 2022, arXiv
2110.15943)."""

_GRADIENTS = ("maml", "reptile", "meta_sgd", "tuned_demonstrations")


@dataclass(frozen=True)
class WritingPlan:
    """What is trained, on which tasks.

    Attributes:
        learner: one of `LEARNERS`.
        rank: of the LoRA matrices, which stand beside all linear layers.
        inner_steps: gradient steps on a task, where the learner makes any.
        inner_rate: of these steps.
        shots: pairs to adapt to.
        queries: pairs to be judged on.
        columns: of prompts and completions.
    """

    learner: str = "maml"
    rank: int = 8
    inner_steps: int = 5
    inner_rate: float = 1e-2
    shots: int = 10
    queries: int = 5
    columns: tuple[str, str] = ("prompt", "completion")

    def spec(self) -> WritingSpec:
        """The method that is trained.

        Raises:
            InputError: there is no such learner, or a number is too small.
        """
        if self.learner not in LEARNERS:
            raise InputError(f"{self.learner!r} is not for a language model; give one of {', '.join(LEARNERS)}")
        if self.rank < 1 or self.inner_steps < 1:
            raise InputError(f"rank is {self.rank} and inner steps {self.inner_steps}; give 1 or more of each")
        lora = LoRA(self.rank, 2.0 * self.rank, ())
        if self.learner not in _GRADIENTS:
            return WritingSpec(self.learner, lora=lora)
        settings = (("per", "rank"),) if self.learner == "meta_sgd" else ()
        return WritingSpec(self.learner, settings, lora, self.inner_steps, self.inner_rate)


def train_pairs(
    source: Path,
    place: Path,
    plan: WritingPlan,
    options: FitOptions,
    base: CausalLM,
    going: Going,
) -> Json:
    """What was trained and measured, as JSON; the start is in the folder `place`, whole or not at all.

    Args:
        source: a folder of files, each of which is a task.
        place: see `meta_training.training_place`.
        plan: what is trained.
        options: of `training.fit`; their folder is set here.
        base: the language model.
        going: whether it goes on from the last checkpoint, and who is told the figures.

    Raises:
        QuickstudyError: as `PairFolder` and `training.fit`.
    """
    if not source.is_dir():
        raise InputError(f"{source}: is no folder; give a folder of files, each with the pairs of one task")
    method = build_writing(plan.spec(), base)
    tasks = EncodedTextTasks(PairFolder(source, plan.shots, plan.queries, plan.columns), method.support)
    options = replace(options, folder=run_place(place))
    fitted = fit(method.learner, tasks, options, trackers=trackers_for(going, place), resume=going.resume)
    values = dict(fitted.info.values)
    provenance = {
        "data": data_files(source),
        "plan": {**asdict(plan), "columns": list(plan.columns)},
        "options": {**asdict(options), "folder": None, "betas": list(options.betas)},
        "values": values,
    }
    save_writing_start(place, WritingStart(method.spec, base, fitted.params, provenance))
    return {
        "name": place.name,
        "folder": str(place),
        "run": str(options.folder),
        "learner": plan.learner,
        "base": base.fingerprint.name,
        "loss": _last_loss(fitted.history),
        **values,
        "notes": list(fitted.info.notes),
    }


def _last_loss(history: Sequence[Json]) -> float | None:
    return float(history[-1]["loss"]) if history else None
