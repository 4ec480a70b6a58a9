import importlib.util
import sys

import pytest

from quickstudy.core.errors import NotAvailable
from quickstudy.training.tracking import Mlflow, TensorBoard, WeightsAndBiases, needed

DESCRIPTION = {"learner": "some.Learner", "options.lr": "0.1"}
ROWS = [{"step": step, "loss": 1 / step} for step in (1, 2, 3)]


def track(tracker):
    tracker.start(DESCRIPTION)
    for row in ROWS:
        tracker.log(int(row["step"]), row)
    tracker.close()


def installed(package):
    return importlib.util.find_spec(package) is not None


@pytest.mark.parametrize(
    ("package", "extra", "make"),
    [
        ("tensorboard", "tensorboard", lambda folder: TensorBoard(folder / "events")),
        ("wandb", "wandb", lambda folder: WeightsAndBiases("project", mode="offline")),
        ("mlflow", "mlflow", lambda folder: Mlflow("experiment", str(folder))),
    ],
)
def test_a_missing_package_is_named_with_its_extra(package, extra, make, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)  # what Python itself calls a package that cannot be imported
    tracker = make(tmp_path)
    with pytest.raises(NotAvailable, match=rf"{package} is not installed.*quickstudy\[{extra}\]"):
        tracker.start(DESCRIPTION)
    tracker.close()
    assert list(tmp_path.iterdir()) == []


def test_what_is_there_is_imported():
    assert needed("json", "any").dumps([1]) == "[1]"


@pytest.mark.skipif(not installed("tensorboard"), reason="tensorboard is not installed")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_tensorboard_reads_what_was_logged(tmp_path):
    track(TensorBoard(tmp_path))
    accumulator = importlib.import_module("tensorboard.backend.event_processing.event_accumulator")
    events = accumulator.EventAccumulator(str(tmp_path))
    events.Reload()
    found = [(event.step, event.value) for event in events.Scalars("loss")]
    assert found == [(row["step"], pytest.approx(row["loss"])) for row in ROWS]


@pytest.mark.skipif(not installed("mlflow"), reason="mlflow is not installed")
@pytest.mark.filterwarnings("ignore")
def test_mlflow_reads_what_was_logged(tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    uri = (tmp_path / "runs").as_uri()
    track(Mlflow("experiment", uri))
    client = importlib.import_module("mlflow").MlflowClient(tracking_uri=uri)
    experiment = client.get_experiment_by_name("experiment").experiment_id
    (run,) = client.search_runs([experiment])
    assert run.data.params == DESCRIPTION
    history = client.get_metric_history(run.info.run_id, "loss")
    assert [(one.step, one.value) for one in history] == [(row["step"], row["loss"]) for row in ROWS]


@pytest.mark.skipif(not installed("wandb"), reason="wandb is not installed")
@pytest.mark.filterwarnings("ignore")
def test_weights_and_biases_writes_offline(tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_DIR", str(tmp_path))
    track(WeightsAndBiases("project", mode="offline"))
    assert list(tmp_path.rglob("*.wandb"))
