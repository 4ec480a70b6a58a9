"""The two sides of the meta-training comparison compute the same."""

import importlib

import pytest
import torch

pytest.importorskip("peft")

WORDS = ("card", "refund", "parcel", "pin", "loan")


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")  # PEFT calls it
def test_losses_and_gradients_agree_and_a_difference_is_refused():
    texts = importlib.import_module("texts")
    meta_training = importlib.import_module("meta_training")
    support = texts.Rows([f"where is my {word}" for word in WORDS], list(WORDS))
    asked = [*(f"my {word} has not come, what am I to do now" for word in WORDS[:2]), *WORDS[2:]]
    query = texts.Rows(asked, list(WORDS))
    learner, encoder = meta_training.ours((5,))
    params = meta_training.started(learner)
    stacked = meta_training.stack_episodes([meta_training.episode(encoder, texts.Task(support, query))])
    ours = meta_training.mean_loss_and_gradients(learner.loss, params, stacked, "loop")
    peer = meta_training.peer_of((5,), params, [texts.Task(support, query)])
    theirs = peer(torch.float32)
    assert meta_training.same(theirs, ours)["gradient"] < 1e-4
    with pytest.raises(RuntimeError, match="do not compute the same"):
        meta_training.same(theirs, (ours[0], {name: 2 * tensor for name, tensor in ours[1].items()}))
