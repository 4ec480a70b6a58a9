"""The classifier: scikit-learn's contract, labels, adding examples, unknown questions, probabilities, files."""

import pickle
import subprocess
import sys
import warnings

import numpy as np
import pytest
import torch
from sklearn.base import clone, is_classifier
from sklearn.exceptions import NotFittedError, SkipTestWarning
from sklearn.metrics import accuracy_score
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.utils import estimator_checks
from sklearn.utils.validation import check_is_fitted, validate_data

from quickstudy import FewShotClassifier, TextEncoder
from quickstudy.core.errors import FileRefused, InputError, NotFitted, TaskError
from quickstudy.core.files import read_json, write_json
from quickstudy.deltas import LoRA
from quickstudy.evaluation import expected_calibration_error
from quickstudy.lifecycle.initialisation import Initialisation, save_initialisation
from quickstudy.lifecycle.methods import METHODS, MethodSpec, build_method, start_params

CLOSED_FORM = ("logistic", "ridge", "protonet")
CHECKS = (
    estimator_checks.check_estimator_cloneable,
    estimator_checks.check_estimator_tags_renamed,
    estimator_checks.check_valid_tag_types,
    estimator_checks.check_estimator_repr,
    estimator_checks.check_no_attributes_set_in_init,
    estimator_checks.check_parameters_default_constructible,
    estimator_checks.check_get_params_invariance,
    estimator_checks.check_set_params,
    estimator_checks.check_do_not_raise_errors_in_init_or_set_params,
    estimator_checks.check_mixin_order,
)


NOT_EXPECTED = {
    "check_classifiers_train": "a random encoder that reads numbers as words cannot part the check's point clouds",
}


class RowsAsTexts(FewShotClassifier):
    """Takes rows of numbers, which most of scikit-learn's checks send, and writes them as words."""

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags = type(tags.input_tags)()
        tags.no_validation = False
        return tags

    def fit(self, X, y):
        return super().fit(as_words(validate_data(self, X)), y)

    def partial_fit(self, X, y, classes=None):
        return super().partial_fit(as_words(validate_data(self, X, reset="adapter_" not in vars(self))), y)

    def answer(self, X):
        check_is_fitted(self)
        return super().answer(as_words(validate_data(self, X, reset=False)))

    def score(self, X, y, sample_weight=None):
        return accuracy_score(y, self.predict(X), sample_weight=sample_weight)


def as_words(rows):
    places = np.clip(np.round(rows * 6 + 20), 0, 39).astype(int)
    return [" ".join(f"n{place}" for place in row[:20]) for row in places]


@pytest.fixture(scope="module")
def lora_method(base, tmp_path_factory):
    """The folder of an initialisation with LoRA matrices that are not zero."""
    encoder = TextEncoder(base)
    spec = MethodSpec("protonet", (("scale", 14.0),), LoRA(2, 4, layers=(1,)))
    method = build_method(spec, encoder)
    generator = torch.Generator().manual_seed(1)
    params = {name: 0.3 * torch.randn(t.shape, generator=generator) for name, t in start_params(method, 0).items()}
    folder = tmp_path_factory.mktemp("method") / "lora"
    save_initialisation(folder, Initialisation(spec, encoder, encoder.fingerprint, params))
    return str(folder)


@pytest.fixture
def fitted(base, draw):
    return FewShotClassifier("logistic", base).fit(*draw(5))


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_scikit_learn_checks_that_need_no_data(check):
    check("FewShotClassifier", FewShotClassifier())


def test_scikit_learn_knows_that_it_reads_strings():
    with pytest.warns(SkipTestWarning, match="string=True"):
        estimator_checks.check_estimator(FewShotClassifier())
    assert is_classifier(FewShotClassifier())


def test_scikit_learn_checks_on_numbers_written_as_texts(base):
    classifier = RowsAsTexts("protonet", base)
    results = estimator_checks.check_estimator(
        classifier, on_skip=None, on_fail=None, expected_failed_checks=NOT_EXPECTED
    )
    failed = [f"{each['check_name']}: {each['exception']}" for each in results if each["status"] == "failed"]
    assert not failed, "\n".join(failed)
    assert sum(each["status"] == "passed" for each in results) > 45


@pytest.mark.parametrize("method", [*METHODS, "lora"])
def test_learns_from_a_few_examples_and_not_from_shuffled_labels(method, base, lora_method, draw):
    method = lora_method if method == "lora" else method
    texts, labels = draw(8)
    tests, expected = draw(20, seed=9)
    classifier = FewShotClassifier(method, base, class_names=False).fit(texts, labels)
    assert classifier.score(tests, expected) > 0.85
    mixed = [sorted(set(labels))[place % 4] for place in range(32)]
    assert FewShotClassifier(method, base, class_names=False).fit(texts, mixed).score(tests, expected) < 0.6


def test_probabilities_and_answers_agree(fitted, draw):
    texts, _ = draw(6, seed=3)
    probabilities = fitted.predict_proba(texts)
    assert probabilities.shape == (24, 4)
    assert probabilities.dtype == np.float64
    np.testing.assert_allclose(probabilities.sum(1), 1)
    assert (fitted.classes_[probabilities.argmax(1)] == fitted.predict(texts)).all()
    assert fitted.classes_.tolist() == sorted(set(fitted.classes_.tolist())) == list(fitted.adapter_.labels)


def test_answers_do_not_depend_on_the_other_texts_or_the_order(fitted, draw):
    texts, _ = draw(6, seed=3)
    together = fitted.predict_proba(texts)
    np.testing.assert_allclose(together[::-1], fitted.predict_proba(texts[::-1]), atol=1e-5)
    np.testing.assert_allclose(together[5:6], fitted.predict_proba([texts[5]]), atol=1e-5)


def test_fitting_again_gives_the_same_and_forgets(base, draw):
    texts, labels = draw(4)
    once = FewShotClassifier("auto", base).fit(texts, labels).predict_proba(texts)
    classifier = FewShotClassifier("auto", base).fit(*draw(4, 1, ("parcel", "refund")))
    assert (classifier.fit(texts, labels).predict_proba(texts) == once).all()
    assert (clone(classifier).fit(texts, labels).predict_proba(texts) == once).all()


def test_works_inside_scikit_learn(base, draw):
    texts, labels = draw(6)
    search = GridSearchCV(FewShotClassifier(base=base), {"method": ["protonet", "ridge"]}, cv=2)
    search.fit(np.array(texts, dtype=object), labels)
    assert search.best_score_ > 0.8
    assert cross_val_score(FewShotClassifier("protonet", base), texts, labels, cv=3).mean() > 0.8
    pipeline = make_pipeline(FewShotClassifier("protonet", base)).fit(texts, labels)
    assert pipeline.predict(texts).tolist() == pipeline[-1].predict(texts).tolist()


def test_survives_pickling_and_is_small(fitted, draw):
    texts, _ = draw(2, seed=5)
    data = pickle.dumps(fitted)
    assert (pickle.loads(data).predict_proba(texts) == fitted.predict_proba(texts)).all()
    assert len(data) < 50_000


@pytest.mark.parametrize("name", ["predict", "predict_proba", "score", "save", "to_peft"])
def test_says_that_it_is_not_fitted(name, tmp_path):
    arguments = {"save": [tmp_path / "a"], "to_peft": [tmp_path / "a"], "score": [["a"], ["b"]]}.get(name, [["a"]])
    with pytest.raises(NotFitted, match="not fitted yet") as caught:
        getattr(FewShotClassifier(), name)(*arguments)
    assert isinstance(caught.value, NotFittedError)
    with pytest.raises(NotFittedError):
        check_is_fitted(FewShotClassifier())


@pytest.mark.parametrize(("numbers", "kind"), [([3, 1, 20, 10], np.integer), ([False, True], np.bool_)])
def test_labels_that_are_no_strings_come_back_as_they_were(numbers, kind, base, draw, tmp_path):
    texts, names = draw(4, classes=("parcel", "refund", "repair", "battery")[: len(numbers)])
    order = list(dict.fromkeys(names))
    labels = np.array([numbers[order.index(name)] for name in names])
    classifier = FewShotClassifier("logistic", base).fit(texts, labels)
    classifier.save(tmp_path / "numbers")
    for one in (classifier, FewShotClassifier.load(tmp_path / "numbers")):
        assert one.classes_.tolist() == sorted(numbers)
        assert np.issubdtype(one.predict(texts).dtype, kind)
        assert (one.predict(texts) == labels).mean() == one.score(texts, labels) > 0.9
    assert not classifier.adapter_.facts["class_names"]
    assert "not words" in " ".join(classifier.info_.notes)


@pytest.mark.parametrize("method", [*CLOSED_FORM, "auto"])
def test_adding_examples_equals_fitting_on_all(method, base, draw):
    first, second = draw(3, 0, ("parcel", "refund")), draw(3, 1, ("repair", "refund"))
    grown = FewShotClassifier(method, base).partial_fit(*first).partial_fit(*second)
    whole = FewShotClassifier(method, base).fit(first[0] + second[0], first[1] + second[1])
    tests, labels = draw(10, 4, ("parcel", "refund", "repair"))
    assert grown.classes_.tolist() == ["parcel", "refund", "repair"]
    assert (grown.predict_proba(tests) == whole.predict_proba(tests)).all()
    assert grown.score(tests, labels) > 0.9


def test_adding_needs_the_examples(base, draw, tmp_path):
    classifier = FewShotClassifier("logistic", base, keep_examples=False).fit(*draw(3, 0, ("parcel", "refund")))
    assert classifier.examples_ is None
    classifier.save(tmp_path / "a")
    for one in (classifier, FewShotClassifier.load(tmp_path / "a")):
        with pytest.raises(InputError, match="keep_examples=True"):
            one.partial_fit(*draw(3, 1, ("repair",)))


def test_one_new_class_may_come_alone_later_but_not_first(base, draw):
    with pytest.raises(TaskError, match="one class"):
        FewShotClassifier("logistic", base).partial_fit(*draw(3, 1, ("repair",)))
    classifier = FewShotClassifier("logistic", base).fit(*draw(3, 0, ("parcel", "refund")))
    assert classifier.partial_fit(*draw(3, 1, ("repair",))).classes_.tolist() == ["parcel", "refund", "repair"]


@pytest.mark.parametrize("method", METHODS)
def test_unknown_questions_are_told_from_known_ones(method, base, draw):
    known = ("parcel", "refund", "repair")
    classifier = FewShotClassifier(method, base, unknown="auto").fit(*draw(12, 0, known))
    inside = classifier.predict(draw(40, 5, known)[0])
    outside = classifier.predict(draw(40, 5, ("battery",))[0])
    assert (inside != "unknown").mean() > 0.85
    assert (outside == "unknown").mean() > 2 * (inside == "unknown").mean() + 0.1
    assert "unknown" not in classifier.classes_


def test_threshold_may_be_given_and_its_word_chosen(base, draw):
    texts, labels = draw(5)
    careful = FewShotClassifier("logistic", base, unknown=1.0, unknown_label="?").fit(texts, labels)
    assert set(careful.predict(texts)) == {"?"}
    assert careful.score(texts, ["?"] * 20) == 1.0
    half = FewShotClassifier("logistic", base, unknown=0.5).fit(texts, labels)
    sure = half.predict_proba(texts).max(1) >= 0.5
    assert ((half.predict(texts) != "unknown") == sure).all()
    assert (FewShotClassifier("logistic", base, unknown=0).fit(texts, labels).predict(texts) != "unknown").all()
    numbers = FewShotClassifier("logistic", base, unknown=1.0).fit(texts, [int(label == "refund") for label in labels])
    assert numbers.predict(texts[:1]).tolist() == ["unknown"]


@pytest.mark.parametrize("unknown", ["Auto", -0.1, 1.1, True, [0.5]])
def test_a_threshold_that_is_none_is_refused(unknown, base, draw):
    with pytest.raises(InputError, match="give None, 'auto' or a probability"):
        FewShotClassifier("logistic", base, unknown=unknown).fit(*draw(2))


def test_a_threshold_cannot_be_fitted_on_nothing(base, draw):
    with pytest.raises(TaskError, match="two examples of a class, or class names"):
        FewShotClassifier("logistic", base, class_names=False, unknown="auto").fit(*draw(1))
    texts, labels = draw(2)
    with pytest.raises(TaskError, match="is a class of the examples"):
        FewShotClassifier("logistic", base, unknown=0.5, unknown_label="refund").fit(texts, labels)


@pytest.mark.parametrize("method", METHODS)
def test_probabilities_are_calibrated(method, base, draw):
    """A third of the labels are wrong, so no answer can be surer than two thirds."""
    texts, labels = draw(120)
    generator = torch.Generator().manual_seed(0)
    order = torch.randperm(480, generator=generator).tolist()
    wrong = torch.rand(480, generator=generator) < 4 / 9
    others = torch.randint(480, (480,), generator=generator).tolist()
    noisy = [labels[others[row]] if wrong[row] else labels[row] for row in range(480)]
    train, test = order[:100], order[100:]
    classifier = FewShotClassifier(method, base).fit([texts[row] for row in train], [noisy[row] for row in train])
    probabilities = torch.from_numpy(classifier.predict_proba([texts[row] for row in test]))
    targets = torch.tensor([classifier.classes_.tolist().index(noisy[row]) for row in test])
    assert expected_calibration_error(probabilities, targets, bins=5) < 0.12
    assert classifier.info_.values["held_out_examples"] == 100


def test_texts_that_are_too_long_are_cut_counted_and_told(base, draw):
    texts, labels = draw(3)
    texts[0] = " ".join([texts[0]] * 10)
    with pytest.warns(UserWarning, match="1 of 16 texts have more than 24 tokens and were cut"):
        classifier = FewShotClassifier("logistic", base).fit(texts, labels)
    assert classifier.info_.values["cut_texts"] == 1
    assert "1 texts are longer" in classifier.info_.notes[0]


def test_class_names_teach_where_examples_say_nothing(base, draw):
    texts, labels = ["my the is", "please where a", "i want", "for now"], ["parcel", "refund", "repair", "battery"]
    tests, expected = draw(20, seed=3)
    scores = [
        FewShotClassifier("logistic", base, class_names=names).fit(texts, labels).score(tests, expected)
        for names in (True, False)
    ]
    assert scores[0] > 0.8
    assert scores[1] < 0.5


def test_labels_of_no_class_are_refused_when_scoring(fitted):
    with pytest.raises(TaskError, match="that no class has: 'unknown'"):
        fitted.score(["a text"], ["unknown"])


@pytest.mark.parametrize(
    ("parameters", "expected"),
    [
        ({"method": "magic"}, "there is no method 'magic'"),
        ({"method": "maml"}, "needs meta-trained parameters"),
        ({"method": 3}, "method is 3"),
        ({"base": 3}, "base is 3"),
        ({"base": ""}, "base is ''"),
    ],
)
def test_parameters_that_mean_nothing_are_refused_when_fitting(parameters, expected, draw):
    with pytest.raises(InputError, match=expected):
        FewShotClassifier(**parameters).fit(*draw(2))


@pytest.mark.parametrize("method", ["logistic", "lora"])
def test_a_new_process_gives_the_same_answers(method, base, lora_method, draw, tmp_path):
    texts, labels = draw(5)
    classifier = FewShotClassifier(lora_method if method == "lora" else method, base, unknown="auto", seed=3)
    classifier.fit(texts, labels).save(tmp_path / "saved")
    tests, _ = draw(5, seed=8)
    np.save(tmp_path / "tests.npy", np.array(tests))
    code = """
import sys, numpy as np, torch
from quickstudy import FewShotClassifier
torch.set_num_threads(1)
folder = sys.argv[1]
classifier = FewShotClassifier.load(folder + "/saved")
labels, probabilities = classifier.answer(np.load(folder + "/tests.npy"))
np.savez(folder + "/answers.npz", labels=labels, probabilities=probabilities, classes=classifier.classes_)
"""
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True, timeout=300)
    answers = np.load(tmp_path / "answers.npz")
    assert (answers["probabilities"] == classifier.predict_proba(tests)).all()
    assert (answers["labels"] == classifier.predict(tests)).all()
    assert (answers["classes"] == classifier.classes_).all()


def test_loading_brings_everything_back(base, draw, tmp_path):
    classifier = FewShotClassifier("ridge", base, unknown="auto", seed=4, unknown_label="none").fit(*draw(4))
    classifier.save(tmp_path / "a")
    loaded = FewShotClassifier.load(tmp_path / "a")
    assert loaded.get_params() == classifier.get_params()
    assert dict(loaded.info_.values) == dict(classifier.info_.values)
    assert loaded.examples_ == classifier.examples_
    more = draw(2, 7, ("battery",))
    tests, _ = draw(3, seed=8)
    assert (loaded.partial_fit(*more).predict_proba(tests) == classifier.partial_fit(*more).predict_proba(tests)).all()
    loaded.save(tmp_path / "a")
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == [
        "adapter.json",
        "adapter.safetensors",
        "examples.json",
    ]


def test_a_base_that_was_moved_can_be_named_and_another_is_refused(base, other_base, draw, tmp_path):
    FewShotClassifier("logistic", base).fit(*draw(3)).save(tmp_path / "a")
    tests, _ = draw(2, seed=1)
    moved = FewShotClassifier.load(tmp_path / "a", TextEncoder(base, max_tokens=20))
    assert moved.predict(tests).tolist() == FewShotClassifier.load(tmp_path / "a").predict(tests).tolist()
    with pytest.raises(InputError, match="give that base or adapt again"):
        FewShotClassifier.load(tmp_path / "a", other_base)


@pytest.mark.parametrize("damage", ["examples", "facts", "choices", "label_kind", "scope"])
def test_damaged_folders_are_refused(damage, base, draw, tmp_path):
    FewShotClassifier("logistic", base).fit(*draw(3)).save(tmp_path / "a")
    path = tmp_path / "a" / ("examples.json" if damage == "examples" else "adapter.json")
    content = read_json(path)
    if damage == "examples":
        content["texts"][0] = "another text"
    elif damage == "choices":
        content["facts"]["choices"]["extra"] = 1
    else:
        content["facts"] = {} if damage == "facts" else {**content["facts"], damage: "strange"}
    write_json(path, content)
    with pytest.raises(FileRefused if damage in ("examples", "choices") else InputError):
        FewShotClassifier.load(tmp_path / "a")


def test_peft_loads_what_was_written(base, lora_method, draw, tmp_path):
    peft = pytest.importorskip("peft")
    from transformers import AutoModel, AutoTokenizer

    texts, labels = draw(3)
    classifier = FewShotClassifier(lora_method, base).fit(texts, labels)
    classifier.to_peft(tmp_path / "peft")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = peft.PeftModel.from_pretrained(AutoModel.from_pretrained(base), tmp_path / "peft").eval()
    batch = AutoTokenizer.from_pretrained(base)(texts[:1], return_tensors="pt")
    features = model(**batch).last_hidden_state.mean(1)
    features = features / features.norm()
    distances = (features - classifier.adapter_.tensors["adapter.prototypes"]).square().sum(-1)
    logits = -14 * distances / classifier.adapter_.facts["temperature"]
    np.testing.assert_allclose(logits.softmax(-1).detach().numpy(), classifier.predict_proba(texts[:1])[0], atol=1e-4)


def test_methods_without_lora_have_no_peft_folder(fitted, tmp_path):
    with pytest.raises(InputError, match="no LoRA matrices"):
        fitted.to_peft(tmp_path / "peft")
    assert not (tmp_path / "peft").exists()


def test_saving_over_something_else_is_refused(fitted, tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "letter.txt").write_text("keep me")
    with pytest.raises(InputError, match=r"letter\.txt"):
        fitted.save(tmp_path / "a")
    assert (tmp_path / "a" / "letter.txt").read_text() == "keep me"
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_banking77_with_five_examples_of_each_class(data_folder):
    from quickstudy import read_table

    table = read_table(data_folder / "intents" / "banking77.parquet")
    train, test = table.where("train_5"), table.where("fs_test")
    test = test.rows(range(0, len(test), 4))
    classifier = FewShotClassifier("logistic").fit(train.texts, train.labels)
    probabilities = torch.from_numpy(classifier.predict_proba(test.texts))
    targets = torch.tensor([classifier.classes_.tolist().index(label) for label in test.labels])
    assert (probabilities.argmax(-1) == targets).double().mean() >= 0.80
    assert expected_calibration_error(probabilities, targets) < 0.05
