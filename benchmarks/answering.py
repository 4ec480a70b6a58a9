"""Answering 256 short texts at once: sentence-transformers with a scikit-learn head beside `FewShotClassifier`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sentence_transformers import SentenceTransformer
from sklearn.linear_model import LogisticRegression

from quickstudy import FewShotClassifier
from report import Options, Row, main
from stopwatch import medians
from texts import Rows, minilm_folder, rows_of

BATCHES = (32, 256)


def compare(options: Options) -> list[Row]:
    """One row for each of our methods, against the peer's fastest batch size."""
    support = rows_of("banking77", "train_5", 4 if options.quick else None)
    texts = rows_of("banking77", "fs_test").texts[:: 3080 // 256][: 16 if options.quick else 256]
    encoder = SentenceTransformer(minilm_folder(), device="cpu")
    head = LogisticRegression(C=30, max_iter=1000).fit(encoder.encode(support.texts), support.labels)
    functions: dict[str, Callable[[], Any]] = {
        f"batch_size {size}": lambda size=size: head.predict(
            encoder.encode(texts, batch_size=size, show_progress_bar=False)
        )
        for size in BATCHES
    }
    functions |= {method: answers(method, support, texts) for method in ("logistic", "auto")}
    found = medians(functions, 1 if options.quick else 15)
    fastest = min((f"batch_size {size}" for size in BATCHES), key=lambda name: found[name])
    settings = {"texts": len(texts), "classes": len(set(support.labels)), "peer": fastest, "seconds": found}
    return [
        Row(
            f"predict {len(texts)} texts: {method} / sentence-transformers + logistic head",
            len(texts) / found[method],
            len(texts) / found[fastest],
            "texts a second",
            settings,
            "ratio 1",
        )
        for method in ("logistic", "auto")
    ]


def answers(method: str, support: Rows, texts: list[str]) -> Callable[[], Any]:
    """`predict` of an adapted classifier."""
    classifier = FewShotClassifier(method).fit(support.texts, support.labels)
    return lambda: classifier.predict(texts)


if __name__ == "__main__":
    main(compare, __doc__)
