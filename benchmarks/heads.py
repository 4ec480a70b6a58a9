"""Accuracy and seconds of scikit-learn heads on frozen sentence-transformers features beside our methods."""

from __future__ import annotations

from typing import Any

from sentence_transformers import SentenceTransformer
from sklearn.linear_model import LogisticRegression, RidgeClassifier

from quickstudy import FewShotClassifier
from report import Options, Row, main
from stopwatch import seconds_of
from texts import Rows, minilm_folder, rows_of

SETS = (
    ("banking77", "train_5", "fs_test"),
    ("banking77", "train_10", "fs_test"),
    ("clinc150", "train_5", "test"),
    ("clinc150", "train_10", "test"),
)
SEEN = "clinc150"
"""The shipped start of `auto` was trained on it, so `auto` is not measured there."""

PEERS: dict[str, Any] = {
    "logistic": LogisticRegression(C=30, max_iter=1000),
    "ridge": RidgeClassifier(alpha=1.0),
}


def compare(options: Options) -> list[Row]:
    """Rows of accuracy and of seconds from texts to an adapter, for each set and method."""
    encoder = SentenceTransformer(minilm_folder(), device="cpu")
    encoder.encode(["a text to warm up"])
    FewShotClassifier("logistic").fit(["one", "two"], ["a", "b"])
    rows = []
    for name, train, test in SETS[:1] if options.quick else SETS:
        limit = 4 if options.quick else None
        support, query = rows_of(name, train, limit), rows_of(name, test, limit)
        if options.quick:
            query = query.head(40)
        encoding, features = seconds_of(lambda texts=support.texts: encoder.encode(texts))
        asked = encoder.encode(query.texts)
        peers = {}
        for peer, head in PEERS.items():
            fitting, fitted = seconds_of(lambda h=head, f=features, y=support.labels: h.fit(f, y))
            peers[peer] = 100 * float(fitted.score(asked, query.labels)), encoding + fitting
        for method, names in (("logistic", False), ("ridge", False), ("logistic", True), ("auto", True)):
            if method == "auto" and name == SEEN:
                continue
            ours = measured(method, names, support, query)
            rows += pair(f"{name} {train} -> {test}", method, names, ours, peers)
    return rows


def measured(method: str, names: bool, support: Rows, query: Rows) -> tuple[float, float]:
    """Accuracy in percent, and seconds of `fit`."""
    classifier = FewShotClassifier(method, class_names=names)
    seconds, _ = seconds_of(lambda: classifier.fit(support.texts, support.labels))
    return 100 * float(classifier.score(query.texts, query.labels)), seconds


def pair(
    data: str, method: str, names: bool, ours: tuple[float, float], peers: dict[str, tuple[float, float]]
) -> list[Row]:
    """A row of accuracy and one of seconds; `auto` stands beside the better head."""
    peer = method if method in peers else max(peers, key=lambda name: peers[name][0])
    used = "with class names" if names else "without class names"
    settings = {"class_names": names, "peer": str(PEERS[peer]), "peer_features": "sentence-transformers, frozen"}
    title = f"{data}: {method}, {used} / scikit-learn {peer}"
    return [
        Row(title, ours[0], peers[peer][0], "percent", settings),
        Row(f"{title}: time to adapt", ours[1], peers[peer][1], "seconds", settings, less_is_better=True),
    ]


if __name__ == "__main__":
    main(compare, __doc__)
