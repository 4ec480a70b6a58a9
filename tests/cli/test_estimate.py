"""`quickstudy estimate`: what it prints, and what it refuses."""

import pytest

WORDS = ("--context", "32", "--rank", "4", "--targets", "q_proj, v_proj")


def test_one_object_for_programs(run, language_model):
    done = run("estimate", "--base", language_model("llama"), *WORDS, "--batch", "5", "--adapters", "7", "--json")
    assert done.code == 0
    found = done.json
    assert found["targets"] == ["q_proj", "v_proj"]
    assert (found["rank"], found["batch"], found["completion"], found["adapters"], found["steps"]) == (4, 5, 16, 7, 40)
    assert found["adaptation"]["peak"] < found["full_tuning"]["peak"]
    assert found["adaptation"]["fits"]
    assert found["adaptation"]["seconds"] > 0
    again = run("estimate", "--base", language_model("llama"), *WORDS, "--batch", "5", "--recompute", "--json").json
    assert again["adaptation"]["activations"] < found["adaptation"]["activations"]


def test_a_table_for_people(run, language_model):
    done = run("estimate", "--base", language_model("qwen2"), "--context", "32", "--adapters", "3")
    assert done.code == 0
    parts = ("weights", "adapter", "activations", "optimiser", "peak")
    for word in (*parts, "fits here", "serving 3 adapters", "its file"):
        assert word in done.out
    assert "an estimate" in done.out
    assert done.err == "" or "MALLOC_MMAP_THRESHOLD_" in done.err


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ((), "--base"),
        (("--base", "nothing/here"), "give a config.json"),
        (("--base", "minilm"), "writes no text"),
        (("--base", "{llama}", "--targets", "query"), "there are down_proj"),
        (("--base", "{llama}", "--context", "999"), "takes 64"),
        (("--base", "{llama}", "--delta", "magic"), "give one of lora"),
        (("--base", "{llama}", "--dtype", "int3"), "float32, bfloat16"),
        (("--base", "{llama}", "--rank", "0"), "--rank"),
    ],
)
def test_a_users_mistake(run, language_model, words, expected):
    done = run("estimate", *(word.format(llama=language_model("llama")) for word in words))
    assert done.code == 2
    assert expected in done.err
    assert "Traceback" not in done.err
    assert done.out == ""
