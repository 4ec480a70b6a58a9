"""The report on this machine."""

import json
from importlib.metadata import version

import pytest

from quickstudy import TextEncoder
from quickstudy.lifecycle.doctor import describe_base, doctor


def test_what_is_installed_and_what_it_takes(base):
    report = doctor(TextEncoder(base), texts=50)
    assert json.loads(json.dumps(report)) == report
    assert report["packages"]["torch"] == version("torch")
    assert report["faster_dtype"] in ("float32", "bfloat16")
    parameters = sum(tensor.numel() for tensor in TextEncoder(base).module().parameters())
    assert report["base"]["parameters"] == pytest.approx(parameters, rel=0.2)
    assert report["base"]["layer_parameters"] < report["base"]["parameters"]
    assert 0 < report["seconds"] < 1
    assert doctor(TextEncoder(base), texts=100)["seconds"] > report["seconds"] / 4
    assert not report["measured"]


def test_time_is_measured_when_asked(base):
    report = doctor(TextEncoder(base), texts=10, measure=True)
    assert report["measured"]
    assert report["seconds"] > 0


def test_a_base_that_is_not_here_is_said_and_not_fetched(tmp_path):
    report = doctor(TextEncoder("someone/some-model"), measure=True)
    assert (report["base"]["here"], report["seconds"], report["needs_mib"]) == (False, None, None)
    assert "not known without its files" in report["base"]["note"]
    assert not describe_base(TextEncoder(str(tmp_path)))["here"]
