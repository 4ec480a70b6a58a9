"""Tasks that are computed together, beside each alone."""

import torch

from quickstudy.core.stacking import stack_episodes
from quickstudy.core.vectorise import mean_loss_and_gradients


def assert_stacked_are_as_alone(learner, params, episodes):
    """Losses and meta-gradients of the stack, by vmap and one after the other, are those of each task by itself."""
    for mode in ("vmap", "loop"):
        losses, gradients = mean_loss_and_gradients(learner.loss, params, stack_episodes(episodes), mode)
        alone = [mean_loss_and_gradients(learner.loss, params, stack_episodes([each]), "loop") for each in episodes]
        torch.testing.assert_close(losses, torch.cat([loss for loss, _ in alone]), atol=1e-5, rtol=1e-5)
        for name, gradient in gradients.items():
            expected = torch.stack([each[name] for _, each in alone]).mean(0)
            torch.testing.assert_close(gradient, expected, atol=1e-4, rtol=1e-3)
