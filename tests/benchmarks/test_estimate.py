"""What is told beforehand beside the resident memory of a real run."""

import importlib
import sys

import pytest

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads the resident size that Linux keeps")


def test_told_peaks_are_within_15_percent_of_measured_ones(tmp_path):
    estimate = importlib.import_module("estimate")
    kinds = ("adaptation", "full_tuning", "serving")
    chosen = [estimate.Case(kind, layers=3, rows=6, tokens=192) for kind in kinds]
    found = estimate.compare(chosen, tmp_path)
    ratios = {each.case.kind: round(each.ratio, 3) for each in found}
    assert all(0.85 < ratio < 1.15 for ratio in ratios.values()), ratios
    assert all(each.measured > 30 << 20 for each in found)
