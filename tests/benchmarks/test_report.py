"""Ratios point the right way, and rows survive their file."""

import importlib
from pathlib import Path

import pytest


def test_a_ratio_above_one_is_better_for_times_and_for_scores():
    report = importlib.import_module("report")
    faster = report.Row("time", 2.0, 10.0, "seconds", {}, less_is_better=True)
    better = report.Row("accuracy", 90.0, 60.0, "percent", {})
    assert faster.ratio == pytest.approx(5)
    assert better.ratio == pytest.approx(1.5)
    assert report.Row("alone", 1.0, None, "percent", {}).ratio is None


def test_rows_come_back_from_their_file(tmp_path, capsys):
    report = importlib.import_module("report")
    rows = [report.Row("time", 2.0, 10.0, "seconds", {"base": "minilm"}, "4 s", less_is_better=True)]
    options = report.options_from(["--quick", "--threads", "1", "--out", str(tmp_path / "found" / "rows.json")])
    report.show_and_write(rows, options)
    assert report.rows_from(options.out) == rows
    assert "5.00" in capsys.readouterr().out


def test_every_script_is_run_by_the_runner():
    folder = Path(__file__).parents[2] / "benchmarks"
    everything = importlib.import_module("everything")
    sources = {path.name: path.read_text(encoding="utf-8") for path in folder.glob("*.py")}
    comparing = {name for name, source in sources.items() if "main(compare, __doc__)" in source}
    assert comparing == set(everything.SCRIPTS)
