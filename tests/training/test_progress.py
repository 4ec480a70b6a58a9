import io

from quickstudy.training.progress import ProgressBar


class Terminal(io.StringIO):
    def isatty(self):
        return True


def shown(stream, monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "160")
    bar = ProgressBar(steps=10, tasks_per_step=4, done=2, stream=stream)
    bar.start({"learner": "some.module.LineLearner"})
    bar.log(0, {"step": 0, "validation_loss": 2.5})
    for step in range(3, 11):
        bar.log(step, {"step": step, "loss": 1.2345})
    bar.close()
    return stream.getvalue()


def test_a_terminal_sees_learner_steps_losses_and_speed(monkeypatch):
    text = shown(Terminal(), monkeypatch)
    for words in ("LineLearner", "10/10", "loss 1.2345", "validation 2.5000", "tasks/s", "left"):
        assert words in text


def test_nothing_is_written_elsewhere(monkeypatch):
    for name in ("FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        monkeypatch.delenv(name, raising=False)
    assert shown(io.StringIO(), monkeypatch) == ""


def test_a_bar_that_never_started_closes():
    ProgressBar(1, 1).close()
