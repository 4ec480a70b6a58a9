import torch

from quickstudy.backbones import precision


def test_picks_bfloat16_only_where_it_is_clearly_faster(monkeypatch):
    for seconds, expected in [(0.5, torch.bfloat16), (0.9, torch.float32), (3.0, torch.float32)]:
        precision.faster_dtype.cache_clear()
        times = {torch.float32: 1.0, torch.bfloat16: seconds}
        monkeypatch.setattr(precision, "_seconds", lambda device, dtype, times=times: times[dtype])
        assert precision.faster_dtype("cpu") == expected
    precision.faster_dtype.cache_clear()


def test_measures_on_this_machine():
    assert precision.faster_dtype("cpu") in (torch.float32, torch.bfloat16)
    assert precision.faster_dtype("cpu") == precision.faster_dtype("cpu")
