"""Who else is told the figures of each step: TensorBoard, Weights & Biases, MLflow, or anything of this shape.

The file `metrics.jsonl` is always written where there is a folder, and is no tracker. A tracker may be told a step
twice, when a run is resumed from a checkpoint before it.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from quickstudy.core.errors import NotAvailable


class Tracker(Protocol):
    """Gets the figures of a run."""

    def start(self, description: Mapping[str, str]) -> None:
        """Called once, before anything is written, with what the run is, by dotted names.

        Raises:
            NotAvailable: a package is not installed.
        """
        ...

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Called after each step."""
        ...

    def close(self) -> None:
        """Called once at the end, however the run ended."""
        ...


class TensorBoard:
    """Writes event files into `folder`. Needs the extra `tensorboard`."""

    def __init__(self, folder: Path | str) -> None:
        self._folder = folder
        self._writer: Any = None

    def start(self, description: Mapping[str, str]) -> None:
        """See `Tracker`."""
        needed("tensorboard", "tensorboard")
        writing = importlib.import_module("torch.utils.tensorboard")
        self._writer = writing.SummaryWriter(str(self._folder))
        self._writer.add_text("run", "\n".join(f"    {name} = {text}" for name, text in description.items()))

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """See `Tracker`."""
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)

    def close(self) -> None:
        """See `Tracker`."""
        if self._writer is not None:
            self._writer.close()


class WeightsAndBiases:
    """Sends to a Weights & Biases project; `mode` is theirs ("online", "offline"). Needs the extra `wandb`."""

    def __init__(self, project: str, name: str | None = None, mode: str = "online") -> None:
        self._settings = {"project": project, "name": name, "mode": mode}
        self._run: Any = None

    def start(self, description: Mapping[str, str]) -> None:
        """See `Tracker`."""
        self._run = needed("wandb", "wandb").init(**self._settings, config=dict(description))

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """See `Tracker`."""
        self._run.log(dict(values), step=step)

    def close(self) -> None:
        """See `Tracker`."""
        if self._run is not None:
            self._run.finish()


class Mlflow:
    """Sends to an MLflow experiment; `uri` is the tracking store. Needs the extra `mlflow`."""

    def __init__(self, experiment: str, uri: str | None = None) -> None:
        self._experiment = experiment
        self._uri = uri
        self._client: Any = None
        self._run = ""

    def start(self, description: Mapping[str, str]) -> None:
        """See `Tracker`."""
        client = needed("mlflow", "mlflow").MlflowClient(tracking_uri=self._uri)
        known = client.get_experiment_by_name(self._experiment)
        experiment = known.experiment_id if known else client.create_experiment(self._experiment)
        self._client, self._run = client, client.create_run(experiment).info.run_id
        for name, text in description.items():
            client.log_param(self._run, name, text[:500])

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """See `Tracker`."""
        for name, value in values.items():
            self._client.log_metric(self._run, name, value, step=step)

    def close(self) -> None:
        """See `Tracker`."""
        if self._client is not None:
            self._client.set_terminated(self._run)


def needed(package: str, extra: str) -> Any:
    """The module `package`.

    Raises:
        NotAvailable: it is not installed; names the extra that brings it.
    """
    try:
        return importlib.import_module(package)
    except ImportError as error:
        message = f"{package} is not installed; run: pip install 'quickstudy[{extra}]'"
        raise NotAvailable(message) from error
