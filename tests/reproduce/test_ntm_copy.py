"""The small run: the machine copies more rows than it was trained on, and only what was written."""

from quickstudy.reproduce.base import Work
from quickstudy.reproduce.ntm_copy import NTM_COPY, plan, run


def test_the_machine_goes_on_where_the_lstm_fails(tmp_path):
    work = Work(tmp_path / "runs", tmp_path / "ntm_copy", quick=True, progress=False, tell=lambda _: None)
    rows = {row.name: row for row in run(work)}
    short, long = plan(quick=True).lengths
    bits = plan(quick=True).tasks.bits
    assert rows[f"NTM, {short} rows"].mean < 0.01 * short * bits
    assert rows[f"NTM, {long} rows"].mean < 0.02 * long * bits
    assert rows[f"control: LSTM, {long} rows"].mean > 0.25 * long * bits
    apart = rows[f"control: NTM, {short} rows, another sequence written"]
    assert abs(apart.mean - 0.5 * short * bits) < 3 * apart.ci95
    assert {path.name for path in tmp_path.glob("*.png")} == {"ntm_copy-copy.png", "ntm_copy-loss.png"}
    assert [row.mean for row in run(work)] == [row.mean for row in rows.values()]


def test_the_full_run_is_the_one_of_the_paper():
    wanted = plan(quick=False)
    assert NTM_COPY.name == "ntm_copy"
    assert (wanted.tasks.length, wanted.tasks.bits) == ((1, 20), 8)
    assert (wanted.cells["NTM"].rows, wanted.cells["NTM"].columns) == (128, 20)
    assert {20, 80} <= set(wanted.lengths)
    assert wanted.episodes >= 600
