"""Episodes from a table: what is drawn, how it is padded, and what is refused."""

from collections import Counter

import pytest
import torch

from quickstudy.core.errors import TaskError
from quickstudy.core.stacking import stack_episodes
from quickstudy.tasks.conformance import check_source
from quickstudy.tasks.episodes import MixedTasks, TableTasks
from quickstudy.tasks.hard import HardClasses
from quickstudy.tasks.table import Table, text_key


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def encode(texts):
    """Characters as tokens, so that an episode can be read back."""
    width = max(map(len, texts))
    ids = torch.tensor([[ord(c) for c in text] + [0] * (width - len(text)) for text in texts])
    return {"input_ids": ids, "mask": (ids > 0).long()}


def table(classes=8, each=12, domains=4):
    rows = [
        (f"no. {n} of class_{c}{'!' * n}", f"class_{c}", f"d{c % domains}") for c in range(classes) for n in range(each)
    ]
    texts, labels, places = zip(*rows, strict=True)
    return Table(texts, labels, domains=places, name="toy")


def read_back(batch):
    """(text, target, weight) of every row."""
    texts = ["".join(chr(c) for c in row if c) for row in batch.inputs["input_ids"].tolist()]
    return list(zip(texts, batch.targets.tolist(), batch.weights.tolist(), strict=True))


def real(batch):
    return [(text, target) for text, target, weight in read_back(batch) if weight]


RANGED = {"ways": (2, 5), "shots": (1, 4), "queries": (2, 6)}


@pytest.mark.parametrize(
    "options",
    [
        {"ways": 5, "shots": 2, "queries": 3},
        RANGED,
        {**RANGED, "class_names": True},
        {**RANGED, "keep_encoded": False},
        {"ways": 2, "shots": 2, "queries": 3, "within": "domain"},
        {"ways": 2, "shots": 2, "queries": 3, "within": "domain", "domain_mix": 0.5},
        {"ways": 3, "shots": 2, "queries": 3, "hard": HardClasses(torch.eye(8), share=0.5)},
    ],
)
def test_the_source_conforms(options):
    check_source(TableTasks(table(), encode, **options), episodes=8)


def test_rows_are_of_their_class_and_labels_are_in_the_order_of_the_numbers():
    whole = table()
    label_of = dict(zip(whole.texts, whole.labels, strict=True))
    source = TableTasks(whole, encode, ways=5, shots=2, queries=3)
    orders = set()
    for seed in range(20):
        episode = source.sample(seeded(seed))
        for side, each in ((episode.support, 2), (episode.query, 3)):
            rows = real(side)
            assert all(episode.labels[target] == label_of[text] for text, target in rows)
            assert Counter(target for _, target in rows) == dict.fromkeys(range(5), each)
        assert not {text for text, _ in real(episode.support)} & {text for text, _ in real(episode.query)}
        orders.add(episode.labels)
    assert len(orders) == 20


def test_ranged_sizes_take_every_value_and_are_padded_to_the_largest():
    source = TableTasks(table(), encode, **RANGED)
    seen = {"ways": set(), "shots": set(), "queries": set()}
    drawn = [source.sample(seeded(seed)) for seed in range(60)]
    for episode in drawn:
        ways = len(episode.labels)
        assert (len(episode.support.weights), len(episode.query.weights), episode.support.ways) == (20, 30, 5)
        seen["ways"].add(ways)
        seen["shots"].add(len(real(episode.support)) // ways)
        seen["queries"].add(len(real(episode.query)) // ways)
        weights = episode.support.weights
        assert torch.equal(weights, weights.sort(descending=True).values)
    assert seen == {"ways": {2, 3, 4, 5}, "shots": {1, 2, 3, 4}, "queries": {2, 3, 4, 5, 6}}
    assert stack_episodes(drawn).support.weights.shape == (60, 20)


def test_tokens_are_cut_to_the_longest_of_the_batch():
    whole = Table(("a", "bb", "x" * 500, "c", "dd", "ee"), ("p", "p", "p", "q", "q", "q"))
    source = TableTasks(whole, encode, ways=2, shots=1, queries=1)
    for seed in range(20):
        batch = source.sample(seeded(seed)).support
        longest = max(len(text) for text, _ in real(batch))
        assert batch.inputs["mask"].shape[1] == longest


def test_class_names_are_one_more_row_of_their_class_with_their_weight():
    source = TableTasks(table(), encode, ways=(2, 4), shots=2, queries=3, class_names=True, name_weight=0.25)
    for seed in range(10):
        episode = source.sample(seeded(seed))
        names = [(text, target) for text, target, weight in read_back(episode.support) if weight == 0.25]
        assert names == [(label.replace("_", " "), number) for number, label in enumerate(episode.labels)]
        assert len(episode.support.weights) == 4 * 3
        assert set(episode.query.weights.tolist()) == {0.0, 1.0} or len(episode.labels) == 4


def test_equal_texts_and_texts_with_two_labels():
    texts = ["A  b", "a B", "c", "d", "e", "both", "f", "BOTH", "g", "h", "one x"]
    whole = Table(tuple(texts), ("one_x",) * 6 + ("two",) * 5)
    plain = TableTasks(whole, encode, ways=2, shots=1, queries=3)
    drawn = {text for seed in range(40) for text, _ in real(plain.sample(seeded(seed)).query)}
    assert drawn == {"A  b", "c", "d", "e", "f", "g", "h", "one x"}
    named = TableTasks(whole, encode, ways=2, shots=1, queries=2, class_names=True)
    drawn = {text_key(text) for seed in range(40) for text, _ in real(named.sample(seeded(seed)).query)}
    assert "one x" not in drawn


def test_within_a_domain_all_classes_are_of_it_and_every_class_has_its_turn():
    whole = Table(
        tuple(f"{d}{c}{n}" for d in "pqr" for c in range(2 + (d == "q") * 2) for n in range(3)),
        tuple(f"{c}" for d in "pqr" for c in range(2 + (d == "q") * 2) for n in range(3)),
        domains=tuple(d for d in "pqr" for c in range(2 + (d == "q") * 2) for n in range(3)),
        name="t",
    )
    source = TableTasks(whole, encode, ways=2, shots=1, queries=2, within="domain")
    counts = Counter()
    for seed in range(400):
        episode = source.sample(seeded(seed))
        domain = episode.task.removeprefix("t/")
        assert {text[0] for text, _ in real(episode.support) + real(episode.query)} == {domain}
        counts.update((domain, label) for label in episode.labels)
    assert len(counts) == 8
    assert max(counts.values()) < 1.5 * min(counts.values())
    wide = TableTasks(whole, encode, ways=(2, 4), shots=1, queries=2, within="domain")
    assert all(e.task == "t/q" for e in (wide.sample(seeded(s)) for s in range(40)) if len(e.labels) > 2)


def test_domain_mix_is_the_part_of_episodes_from_anywhere():
    source = TableTasks(table(), encode, ways=2, shots=1, queries=2, within="domain", domain_mix=0.5)
    mixed = sum(source.sample(seeded(seed)).task == "toy" for seed in range(300))
    assert 110 < mixed < 190


def test_hard_episodes_take_near_classes_and_still_cover_all():
    angle = torch.tensor([0.0, 0.1, 0.2, 0.3]).repeat(2) + torch.tensor([0.0, 3.0]).repeat_interleave(4)
    vectors = torch.stack([angle.cos(), angle.sin()], 1)
    near = {f"class_{c}": c // 4 for c in range(8)}

    def together(hard):
        source = TableTasks(table(), encode, ways=3, shots=1, queries=1, hard=hard)
        drawn = [source.sample(seeded(seed)).labels for seed in range(200)]
        assert {label for labels in drawn for label in labels} == set(near)
        assert len({frozenset(labels) for labels in drawn}) > 4
        return sum(len({near[label] for label in labels}) == 1 for labels in drawn) / 200

    assert together(HardClasses(vectors, temperature=0.05)) == 1
    assert together(HardClasses(vectors, temperature=1000)) < 0.4
    assert 0.4 < together(HardClasses(vectors, share=0.5)) < 0.75
    assert together(None) < 0.4


def test_class_vectors_are_computed_from_the_texts():
    seen = []

    def embed(texts):
        seen.extend(texts)
        return torch.tensor(
            [[1.0 + ("class_0" in t or "class_1" in t), float("class_0" in t or "class_1" in t)] for t in texts]
        )

    source = TableTasks(table(), encode, ways=2, shots=1, queries=1, hard=HardClasses(embed=embed, temperature=0.001))
    assert not seen
    for seed in range(40):
        labels = set(source.sample(seeded(seed)).labels)
        assert labels == {"class_0", "class_1"} or not labels & {"class_0", "class_1"}
    assert len(seen) == len(table())


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"shots": 10, "queries": 5}, ("toy", "10 shots + 5 queries = 15", "'class_0' has 12", "and 3 more")),
        ({"shots": (1, 9), "queries": (2, 4)}, ("9 shots + 4 queries = 13", "'class_0' has 12")),
        ({"ways": 9, "queries": 2}, ("9 ways", "8 classes")),
        ({"ways": 3, "queries": 2, "within": "domain"}, ("3 ways", "largest domain has 2 classes")),
        ({"shots": 10, "queries": 5, "skip_small": True}, ("5 ways", "0 classes")),
        ({"ways": 1}, ("ways is 1", "from 2 up")),
        ({"shots": 0}, ("shots is 0", "from 1 up")),
        ({"queries": (3, 2)}, ("queries is (3, 2)",)),
        ({"within": "label", "queries": 2}, ("within is 'label'",)),
        ({"domain_mix": 2, "queries": 2}, ("domain_mix is 2",)),
        ({"queries": 2, "hard": HardClasses()}, ("give one of the two",)),
        ({"queries": 2, "hard": HardClasses(torch.eye(3))}, ("shape [3, 3]", "8 classes")),
        ({"queries": 2, "hard": HardClasses(torch.full((8, 2), torch.nan))}, ("NaN",)),
        ({"queries": 2, "hard": HardClasses(torch.eye(8), temperature=0)}, ("temperature is 0",)),
    ],
)
def test_what_makes_no_task_is_refused(options, words):
    with pytest.raises(TaskError) as caught:
        TableTasks(table(), encode, **options).sample(seeded())
    for word in words:
        assert word in str(caught.value)


def test_one_class_no_rows_and_no_domains_are_refused():
    with pytest.raises(TaskError, match="one class, 'x'"):
        TableTasks(Table(("a", "b"), ("x", "x")), encode).sample(seeded())
    with pytest.raises(TaskError, match="no rows"):
        TableTasks(Table((), ()), encode).sample(seeded())
    with pytest.raises(TaskError, match="needs a domain column"):
        TableTasks(Table(("a", "b"), ("x", "y")), encode, within="domain").sample(seeded())


def test_small_classes_can_be_left_out():
    whole = table()
    few = Table((*whole.texts, "only one"), (*whole.labels, "rare"))
    with pytest.raises(TaskError, match="'rare' has 1"):
        TableTasks(few, encode, queries=2).sample(seeded())
    source = TableTasks(few, encode, ways=8, shots=1, queries=2, skip_small=True)
    assert "rare" not in source.sample(seeded()).labels
    assert source.eligible() == {"": whole.classes}


def test_mixed_sources_are_asked_by_their_weights():
    one = TableTasks(table(), encode, shots=1, queries=1)
    other = TableTasks(Table(("a", "b", "c", "d"), ("x", "x", "y", "y"), name="other"), encode, 2, 1, 1)
    mixed = MixedTasks((one, other), (3, 1))
    check_source(mixed)
    assert 50 < sum(mixed.sample(seeded(seed)).task == "other" for seed in range(300)) < 100
    for sources, weights in (((), ()), ((one,), (1, 2)), ((one, other), (0, 0)), ((one,), (-1,))):
        with pytest.raises(TaskError, match="weight"):
            MixedTasks(sources, weights).sample(seeded())
