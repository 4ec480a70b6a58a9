"""The initialisation that ships for texts: LoRA on MiniLM, meta-trained for `auto`.

Tasks are drawn within the domains of three sources with open licences: `data/written_tasks.csv`, written for this
recipe (Apache-2.0, as the project), CLINC150 (CC BY 3.0) and MultiDoGO (CDLA Permissive 1.0). BANKING77, SNIPS, ATIS
and ARSC stay unseen; the written tasks leave out banks, cards, transfers and cash. Half of the episodes are of classes
that the base finds close to each other, for uniform ones are too easy to teach it anything.

    python -m recipes.text_start --out src/quickstudy/shipped/auto-minilm
    python -m recipes.text_start --without clinc150 --out runs/without_clinc150
"""

from __future__ import annotations

import argparse
import subprocess
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch

from quickstudy.backbones import TextEncoder
from quickstudy.core.types import Json, Params
from quickstudy.learners.text.auto import Auto
from quickstudy.lifecycle import FewShotClassifier
from quickstudy.lifecycle.evaluating import EpisodePlan, evaluate_episodes
from quickstudy.lifecycle.initialisation import Initialisation, save_initialisation
from quickstudy.lifecycle.methods import METHODS, build_method
from quickstudy.tasks import HardClasses, MixedTasks, Table, TableTasks, TaskSource, read_intents, read_table
from quickstudy.training import FitOptions, fit

WRITTEN = Path(__file__).parent / "data" / "written_tasks.csv"
LICENCES = {
    "written": "Apache-2.0, written for this recipe",
    "clinc150": "CC BY 3.0",
    "multidogo": "CDLA Permissive 1.0",
}
WEIGHTS = {"written": 0.6, "clinc150": 0.25, "multidogo": 0.15}
"""How often a source is asked."""
WAYS = {"written": 20, "clinc150": 15, "multidogo": 6}
"""The most classes in an episode: what the domains of the source have."""


def tables(without: Sequence[str] = ()) -> dict[str, Table]:
    """Source -> its rows, all splits together but the few-shot ones, which repeat the others."""
    found = {"written": read_table(WRITTEN, domain_column="domain")}
    for name in ("clinc150", "multidogo"):
        if name not in without:
            table = read_intents(name)
            kept = [
                row
                for row, (label, split) in enumerate(zip(table.labels, table.splits, strict=True))
                if split in ("train", "valid", "dev", "test") and label not in ("oos", "outofdomain")
            ]
            found[name] = table.rows(kept)
    return {name: table for name, table in found.items() if name not in without}


def tasks(encoder: TextEncoder, without: Sequence[str] = ()) -> TaskSource:
    """Episodes of 5 to 20 classes, mostly within a domain, with 1 to 5 shots and the class names in the support."""
    sources, weights = [], []
    for name, table in tables(without).items():
        source = TableTasks(
            table,
            encode=encoder.inputs,
            ways=(5, WAYS[name]),
            shots=(1, 5),
            queries=4,
            class_names=True,
            within="domain",
            domain_mix=0.0 if name == "multidogo" else 0.3,
            hard=HardClasses(embed=encoder.embed, temperature=0.1, share=0.5),
            skip_small=True,
        )
        sources.append(source)
        weights.append(WEIGHTS[name])
    return MixedTasks(tuple(sources), tuple(weights))


def recipe(without: Sequence[str] = (), steps: int = 400) -> tuple[Auto, TaskSource, FitOptions]:
    """The learner, its tasks and the options of the run."""
    method = build_method(METHODS["auto"], TextEncoder())
    assert isinstance(method.learner, Auto)
    options = FitOptions(
        steps=steps,
        tasks_per_step=1,
        lr=1.5e-4,
        weight_decay=0.01,
        schedule="cosine",
        warmup=steps // 10,
        clip=1.0,
        mode="loop",
        precision="bfloat16",
        seed=0,
    )
    return method.learner, tasks(TextEncoder(dtype="auto"), without), options


def main() -> None:
    """Runs the recipe and writes the initialisation."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--without", nargs="*", default=[], choices=sorted(LICENCES), help="sources to leave out")
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--run", type=Path, help="folder for checkpoints and metrics")
    chosen = parser.parse_args()
    learner, source, options = recipe(chosen.without, chosen.steps)
    commit = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout.strip()
    began = time.perf_counter()
    fitted = fit(learner, source, replace(options, folder=chosen.run))
    facts: dict[str, Json] = {
        "data": {name: licence for name, licence in LICENCES.items() if name not in chosen.without},
        "seed": options.seed,
        "steps": options.steps,
        "lr": options.lr,
        "loss": fitted.history[-1]["loss"],
        "seconds": round(time.perf_counter() - began),
        "device": "cpu",
        "torch": torch.__version__,
        "recipe": "recipes/text_start.py",
        "commit": commit,
    }
    write(chosen.out, fitted.params, facts)


def write(folder: Path, params: Params, facts: dict[str, Json]) -> None:
    """Writes the initialisation with its figures on a validation split of a data set that no training saw."""
    base = TextEncoder()
    initialisation = Initialisation(METHODS["auto"], base, base.fingerprint, params, facts)
    save_initialisation(folder, initialisation)
    unseen, plan = read_intents("banking77").where(split="fs_valid"), EpisodePlan(5, 1, 4, 200)
    arms = {"this": FewShotClassifier(str(folder), class_names=False)}
    arms["base, prototypes"] = FewShotClassifier("protonet", class_names=False)
    metrics = {name: evaluate_episodes(unseen, arm, plan)["accuracy"] for name, arm in arms.items()}
    measured = {"what": "BANKING77 fs_valid, 5-way 1-shot accuracy, no class names", **metrics}
    save_initialisation(folder, replace(initialisation, provenance={**facts, "metrics": measured}))


if __name__ == "__main__":
    main()
