"""Attention against torch's own, and weights as repeated rows."""

import pytest
import torch
from torch.nn import functional

from quickstudy.learners.attention import (
    NEVER,
    attend,
    attend_and_self,
    check_heads,
    encoded,
    log_weights,
    merge_heads,
    split_heads,
    start_encoder,
)
from quickstudy.tasks.gaussian_processes import GaussianProcesses


def rows(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_attention_is_that_of_torch():
    queries, keys, values = (rows(2, size, 4, seed=seed) for seed, size in enumerate((5, 7, 7)))
    shown = torch.tensor([1.0, 1, 0, 1, 0, 1, 1])
    expected = functional.scaled_dot_product_attention(queries, keys, values, attn_mask=shown > 0)
    torch.testing.assert_close(attend(queries, keys, values, log_weights(shown)), expected)


def test_seeing_oneself_is_attention_with_the_queries_among_the_keys():
    mine, keys, values = (rows(2, 3, 4, seed=9),) * 3, rows(2, 7, 4, seed=1), rows(2, 7, 4, seed=2)
    weights = torch.tensor([1.0, 1, 0, 1, 0, 1, 2])
    bias = torch.cat([log_weights(weights).expand(3, -1), torch.where(torch.eye(3) > 0, 0.0, NEVER)], -1)
    together = attend(mine[0], torch.cat([keys, mine[1]], 1), torch.cat([values, mine[2]], 1), bias)
    torch.testing.assert_close(attend_and_self(mine, keys, values, log_weights(weights)), together)


def test_heads_are_split_and_merged():
    found = split_heads(rows(5, 12), 3)
    assert found.shape == (3, 5, 4)
    assert torch.equal(merge_heads(found), rows(5, 12))
    assert torch.equal(found[1], rows(5, 12)[:, 4:8])


def test_where_nobody_is_seen_nothing_is_nan():
    assert attend(rows(1, 2, 4), rows(1, 3, 4), rows(1, 3, 4), log_weights(torch.zeros(3))).isfinite().all()


def test_self_attention_lets_rows_see_each_other():
    support = GaussianProcesses(context=5, points=9).sample(torch.Generator().manual_seed(0)).support
    moved = support.targets.clone()
    moved[0] += 1
    for blocks, sees in ((0, False), (1, True)):
        params = start_encoder("pairs", (2, 8, 8), blocks, torch.Generator().manual_seed(0))
        one, other = (
            encoded(params, "pairs", type(support)(support.inputs, y, support.weights), 2, blocks)
            for y in (support.targets, moved)
        )
        assert (not torch.allclose(one[1:], other[1:])) == sees


def test_heads_that_do_not_divide_are_refused():
    with pytest.raises(ValueError, match="width is 10 and heads is 4"):
        check_heads(10, 4)
