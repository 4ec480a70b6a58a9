import json

import pytest

from quickstudy.core.errors import FileRefused
from quickstudy.training.metrics import METRICS, Metrics

ROWS = [{"step": 1, "loss": 0.1}, {"step": 2, "loss": 1 / 3}, {"step": 3, "loss": 5e-324}]


def filled(folder, rows):
    metrics = Metrics(folder)
    for row in rows:
        metrics.append(row)
    return metrics


def test_one_line_a_row_and_no_digit_lost(tmp_path):
    metrics = filled(tmp_path, ROWS)
    assert [json.loads(line) for line in (tmp_path / METRICS).read_text().splitlines()] == ROWS
    assert metrics.rows() == tuple(ROWS)
    assert metrics.settled() == (tmp_path / METRICS).stat().st_size


def test_without_a_folder_rows_are_kept_in_memory():
    metrics = filled(None, ROWS)
    assert metrics.rows() == tuple(ROWS)
    assert metrics.settled() == 0


def test_what_comes_after_the_checkpoint_is_cut_off(tmp_path):
    size = filled(tmp_path, ROWS[:1]).settled()
    with (tmp_path / METRICS).open("a") as file:
        file.write('{"step": 2, "lo')
    metrics = Metrics(tmp_path, size)
    assert metrics.rows() == tuple(ROWS[:1])
    for row in ROWS[1:]:
        metrics.append(row)
    assert [json.loads(line) for line in (tmp_path / METRICS).read_text().splitlines()] == ROWS
    assert metrics.settled() == (tmp_path / METRICS).stat().st_size


def test_a_file_with_too_few_lines_is_refused(tmp_path):
    size = filled(tmp_path, ROWS).settled()
    (tmp_path / METRICS).write_text("")
    with pytest.raises(FileRefused) as caught:
        Metrics(tmp_path, size)
    assert caught.value.reason == "truncated"


def test_a_damaged_line_is_refused(tmp_path):
    size = filled(tmp_path, ROWS).settled()
    (tmp_path / METRICS).write_bytes(b"x" * size)
    with pytest.raises(FileRefused) as caught:
        Metrics(tmp_path, size)
    assert caught.value.reason == "not_json"


def test_figures_that_are_no_numbers_are_not_written(tmp_path):
    with pytest.raises(ValueError, match="JSON"):
        filled(tmp_path, [{"step": 1, "loss": float("nan")}])
