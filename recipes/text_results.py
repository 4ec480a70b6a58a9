"""The table of few-shot text classification: every row of the goal with its controls, measured in one run.

    python -m recipes.text_results --clinc-start runs/without_clinc150

Test rows are read here and nowhere else; every choice was made on validation splits. CLINC150 is measured with an
initialisation that was trained without it (`python -m recipes.text_start --without clinc150`), BANKING77 with the one
that ships. Writes docs/results/text.json after each row, so that an interrupted run keeps what it has.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from quickstudy.backbones import TextEncoder
from quickstudy.core.files import read_json, write_json
from quickstudy.core.types import Json
from quickstudy.evaluation.out_of_scope import auroc, outside_recall, scope_scores
from quickstudy.lifecycle import FewShotClassifier
from quickstudy.lifecycle.evaluating import EpisodePlan, evaluate_episodes, evaluate_splits
from quickstudy.lifecycle.fitting import open_adapter
from quickstudy.lifecycle.initialisation import Initialisation, save_initialisation
from quickstudy.lifecycle.methods import METHODS, build_method, start_params
from quickstudy.tasks import Table, read_intents
from quickstudy.tasks.table import text_key

OUT = Path("docs/results/text.json")
DRAWS = 5


@dataclass(frozen=True)
class Arm:
    """A way to adapt, as a row of the table.

    Attributes:
        what: its name in the table.
        method: as `FewShotClassifier` takes it.
        class_names: whether it may use them.
    """

    what: str
    method: str
    class_names: bool = True

    def classifier(self, seed: int = 0) -> FewShotClassifier:
        """A classifier that is not fitted."""
        return FewShotClassifier(self.method, class_names=self.class_names, seed=seed, keep_examples=False)


def plain_start(folder: Path) -> str:
    """`auto` without meta-training: the base as it is and LoRA as it is drawn."""
    encoder = TextEncoder()
    method = build_method(METHODS["auto"], encoder)
    start = Initialisation(METHODS["auto"], encoder, encoder.fingerprint, start_params(method, 0))
    save_initialisation(folder, start)
    return str(folder)


def shuffled(table: Table, seed: int = 0) -> Table:
    """The rows with their labels dealt out anew."""
    order = torch.randperm(len(table), generator=torch.Generator().manual_seed(seed)).tolist()
    labels = tuple(table.labels[row] for row in order)
    return Table(table.texts, labels, name=table.name)


def drawn(table: Table, shots: int, seed: int) -> Table:
    """`shots` rows of each label, texts that differ."""
    order = torch.randperm(len(table), generator=torch.Generator().manual_seed(seed)).tolist()
    chosen: dict[str, dict[str, int]] = {}
    for row in order:
        of_label = chosen.setdefault(table.labels[row], {})
        if len(of_label) < shots:
            of_label.setdefault(text_key(table.texts[row]), row)
    return table.rows(sorted(row for rows in chosen.values() for row in rows.values()))


def split_row(task: str, arm: Arm, train: Table, test: Table) -> Json:
    """One adaptation and its figures on the test rows."""
    found = evaluate_splits(train, test, arm.classifier())
    return _row(task, arm, 100 * found["accuracy"], ece=found["ece"], seconds=found["adapt_seconds"])


def draws_row(task: str, arm: Arm, pool: Table, test: Table) -> Json:
    """Figures over draws of 5 shots."""
    found = [evaluate_splits(drawn(pool, 5, 10 + draw), test, arm.classifier(draw)) for draw in range(DRAWS)]
    values = [100 * each["accuracy"] for each in found]
    ece = statistics.mean(each["ece"] for each in found)
    return _row(task, arm, statistics.mean(values), ece=ece, draws=values, spread=statistics.stdev(values))


def episodes_row(task: str, arm: Arm, table: Table, shots: int, episodes: int) -> Json:
    """Figures over 5-way tasks; the interval is over tasks."""
    found = evaluate_episodes(table, arm.classifier(), EpisodePlan(5, shots, 15, episodes))
    return _row(
        task,
        arm,
        100 * found["accuracy"],
        ci95=100 * found["ci95"],
        tasks=episodes,
        seconds=found["adapt_seconds_median"],
    )


def scope_row(task: str, arm: Arm, train: Table, inside: Table, outside: Table) -> Json:
    """How well questions of no class are told."""
    classifier = arm.classifier().fit(train.texts, train.labels)
    answering = open_adapter(classifier.adapter_, TextEncoder())
    kind = classifier.adapter_.facts["scope"]
    scores = [scope_scores(answering.logits(table.texts), kind) for table in (inside, outside)]
    return _row(task, arm, 100 * auroc(*scores), recall=100 * outside_recall(*scores), score=kind)


def _row(task: str, arm: Arm, value: float, **more: Json) -> Json:
    return {"task": task, "what": arm.what, "class_names": arm.class_names, "value": value, **more}


def rows(plain: str, clinc_start: str, episodes: int) -> Sequence[tuple[str, Callable[[], Json]]]:
    """All rows, unmeasured."""
    banking, clinc = read_intents("banking77"), read_intents("clinc150")
    arms = (
        Arm("auto", "auto"),
        Arm("auto, no class names", "auto", class_names=False),
        Arm("auto, no meta-training", plain),
        Arm("frozen + logistic, class names", "logistic"),
        Arm("frozen + logistic", "logistic", class_names=False),
        Arm("frozen + prototypes", "protonet", class_names=False),
    )
    clinc_arms = (Arm("auto, meta-trained without CLINC150", clinc_start), *arms[2:5])
    found: list[tuple[str, Callable[[], Json]]] = []

    def add(task: str, measure: Callable[..., Json], arm: Arm, *args: object) -> None:
        found.append((f"{task}: {arm.what}", lambda: measure(task, arm, *args)))

    test, pool = banking.where(split="fs_test"), banking.where(split="fs_train")
    for shots in (5, 10):
        train = banking.where(split=f"train_{shots}")
        for arm in arms:
            add(f"BANKING77 train_{shots} -> fs_test", split_row, arm, train, test)
    add(
        "BANKING77 train_5 -> fs_test",
        split_row,
        Arm("auto, shuffled labels", "auto", class_names=False),
        shuffled(banking.where(split="train_5")),
        test,
    )
    for arm in (arms[0], arms[2], arms[4]):
        add("BANKING77 5 random 5-shot draws -> fs_test", draws_row, arm, pool, test)
    inside, outside = clinc.where(split="test"), clinc.where(split="oos_test")
    for shots in (5, 10):
        train = clinc.where(split=f"train_{shots}")
        for arm in clinc_arms:
            add(f"CLINC150 train_{shots} -> test", split_row, arm, train, inside)
    for arm in clinc_arms:
        add("CLINC150 train_5, out of scope", scope_row, arm, clinc.where(split="train_5"), inside, outside)
    for arm in (arms[0], arms[4], arms[1], arms[2]):
        for shots in (5, 1):
            add(f"BANKING77 5-way {shots}-shot, test", episodes_row, arm, test, shots, episodes)
    return found


def main() -> None:
    """Measures all rows, or those whose name holds a given word."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--clinc-start", required=True, help="an initialisation trained without CLINC150")
    parser.add_argument("--episodes", type=int, default=600)
    parser.add_argument("--only", default="", help="rows whose name holds this")
    parser.add_argument("--out", type=Path, default=OUT)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        for name, measure in rows(plain_start(Path(folder) / "plain"), chosen.clinc_start, chosen.episodes):
            if chosen.only in name:
                row = measure()
                print(f"{name}: {row['value']:.2f}", flush=True)
                keep(row, chosen.out)


def keep(row: Json, path: Path) -> None:
    """Puts `row` into the file, in the place of an older one of the same name."""
    facts: Json = read_json(path) if path.exists() else {"rows": []}
    older = [each for each in facts["rows"] if (each["task"], each["what"]) != (row["task"], row["what"])]
    about = {
        "name": "Few-shot text classification, MiniLM",
        "command": "python -m recipes.text_results --clinc-start runs/without_clinc150",
        "device": "CPU",
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
    }
    write_json(path, {**about, "rows": sorted([*older, row], key=lambda each: str(each["task"]))})


if __name__ == "__main__":
    main()
