"""The program as its users run it: in a process of its own."""

import json
import signal


def test_an_adapter_answers_in_a_new_process(start, run, made):
    process = start("predict", made, "-", "--json", "--threads", "1")
    out, _ = process.communicate("where is my parcel\n", timeout=300)
    assert process.returncode == 0
    there = json.loads(out.splitlines()[-1])["predictions"]
    assert there == run("predict", made, "--text", "where is my parcel", "--json").json["predictions"]


def test_a_mistake_prints_one_line_and_no_traceback(start):
    process = start("adapt", "no.csv", "--name", "shop", "--json")
    out, err = process.communicate(timeout=300)
    assert process.returncode == 2
    assert out == ""
    assert [line for line in err.splitlines() if not line.startswith(("starting", "error: "))] == []


def test_ctrl_c_leaves_nothing(start, tickets, tmp_path):
    process = start("adapt", tickets, "--name", "shop", "--method", "logistic")
    for line in process.stderr:
        if line.startswith("adapting"):
            break
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=300)
    assert process.returncode == 130, err
    assert out == ""
    assert "Traceback" not in err
    assert "stopped" in err
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_ctrl_c_while_starting_is_quiet(start, tickets, tmp_path):
    process = start("evaluate", tickets, "--episodes", "600")
    process.stderr.readline()
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=300)
    assert process.returncode == 130, err
    assert "Traceback" not in err
