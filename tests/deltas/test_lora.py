import pytest
import torch
from torch import nn
from torch.func import functional_call

from quickstudy.core.functional import Functional
from quickstudy.deltas import LoRA, gather_adapters
from quickstudy.deltas.lora import LoraLinear, low_rank, pruned


def drawn(delta, factory, seed):
    """Adapter matrices with B not zero."""
    generator = torch.Generator().manual_seed(seed)
    params = delta.init(delta.attach(factory()), {}, generator)
    return {name: torch.randn(tensor.shape, generator=generator) * 0.3 for name, tensor in params.items()}


def take(inputs, row):
    return {name: leaf[row : row + 1] for name, leaf in inputs.items()}


@pytest.mark.parametrize("delta", [LoRA(rank=3), LoRA(rank=2, targets=("dense", "query"), layers=(1,))], ids=str)
def test_a_mixed_batch_equals_one_by_one(delta, factory, inputs):
    """Also under vmap, where a row's adapter is mapped away from the batch."""
    function = Functional(lambda: delta.attach(factory()))
    adapters = [drawn(delta, factory, seed) for seed in range(3)]
    stacked = {name: torch.stack([adapter[name] for adapter in adapters]) for name in adapters[0]}
    index = torch.tensor([2, 0, 1, 2, 0])
    with torch.no_grad():
        mixed = function(gather_adapters(stacked, index), inputs)
        single = torch.cat([function(adapters[index[row]], take(inputs, row)) for row in range(5)])
    assert torch.allclose(mixed, single, atol=1e-5)
    assert not torch.allclose(mixed, function(adapters[0], inputs), atol=1e-2)
    doubled = {name: torch.stack([leaf, leaf.flip(0)]) for name, leaf in inputs.items()}
    indices = torch.stack([index, index.flip(0)])
    mapped = torch.vmap(lambda rows, part: function(gather_adapters(stacked, rows), part))(indices, doubled)
    assert torch.allclose(mapped, torch.stack([single, single.flip(0)]), atol=1e-5)


def test_a_mixed_batch_has_the_gradients_of_one_by_one(factory, inputs):
    delta = LoRA(rank=2)
    function = Functional(lambda: delta.attach(factory()))
    adapters = [drawn(delta, factory, seed) for seed in range(2)]
    stacked = {name: torch.stack([adapter[name] for adapter in adapters]) for name in adapters[0]}
    index = torch.tensor([1, 0, 1, 1, 0])
    mixed = torch.func.grad(lambda s: function(gather_adapters(s, index), inputs).square()[:, :3].sum())(stacked)
    for number, adapter in enumerate(adapters):
        rows = {name: leaf[index == number] for name, leaf in inputs.items()}
        gradient = torch.func.grad(lambda a, rows=rows: function(a, rows).square()[:, :3].sum())(adapter)
        for name, tensor in gradient.items():
            assert torch.allclose(mixed[name][number], tensor, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(("rslora", "scale"), [(False, 16 / 4), (True, 16 / 2)])
@pytest.mark.parametrize("shape", [(5, 6), (5, 3, 6), (5, 2, 3, 6)])
def test_the_layer_is_the_merged_matrix(shape, rslora, scale):
    linear = nn.Linear(6, 4)
    layer = LoraLinear(linear, 4, LoRA(rank=4, alpha=16, rslora=rslora).scale)
    a, b, x = torch.randn(4, 6), torch.randn(4, 4), torch.randn(shape)
    merged = linear.weight + scale * b @ a
    expected = x @ merged.T + linear.bias
    assert torch.allclose(functional_call(layer, {"lora_A": a, "lora_B": b}, (x,)), expected, atol=1e-4)
    rows = {"lora_A": a.expand(5, 4, 6), "lora_B": b.expand(5, 4, 4)}
    assert torch.allclose(functional_call(layer, rows, (x,)), expected, atol=1e-4)
    assert layer.weight is linear.weight


@pytest.mark.parametrize("rows", [(), (5,)], ids=["one adapter", "of each row"])
def test_beside_bfloat16_it_computes_in_bfloat16_and_keeps_float32_matrices(rows):
    draws = torch.Generator().manual_seed(0)
    whole = nn.Linear(6, 4).requires_grad_(False)
    half = nn.Linear(6, 4, dtype=torch.bfloat16).requires_grad_(False)
    half.load_state_dict(whole.state_dict())
    shapes = {"lora_A": (3, 6), "lora_B": (4, 3)}
    matrices = {name: torch.randn(*rows, *shape, generator=draws) for name, shape in shapes.items()}
    x = torch.randn(5, 7, 6, generator=draws)
    assert low_rank(x.bfloat16(), *matrices.values()).dtype == torch.bfloat16
    found = {}
    for linear in (whole, half):
        layer, dtype = LoraLinear(linear, 3, 1.7), linear.weight.dtype

        def loss(tensors, layer=layer, dtype=dtype):
            outputs = functional_call(layer, tensors, (x.to(dtype),))
            assert outputs.dtype == dtype
            return outputs.float().square().mean()

        found[dtype] = torch.func.grad_and_value(loss)(matrices)
    (coarse, coarse_loss), (fine, fine_loss) = found[torch.bfloat16], found[torch.float32]
    torch.testing.assert_close(coarse_loss, fine_loss, rtol=0.02, atol=0)
    for name, tensor in fine.items():
        assert coarse[name].dtype == torch.float32
        assert float((coarse[name] - tensor).norm() / tensor.norm()) < 0.02


def test_at_the_first_step_only_b_has_a_gradient(factory, inputs):
    delta = LoRA(rank=3)
    function = Functional(lambda: delta.attach(factory()))
    params = delta.init(function.module(), {}, torch.Generator().manual_seed(0))
    gradient = torch.func.grad(lambda tensors: function(tensors, inputs).square()[:, 0].sum())(params)
    assert gradient
    for name, tensor in gradient.items():
        assert tensor.any() == name.endswith("lora_B"), name


def test_a_is_drawn_within_its_bound_and_names_are_those_of_the_layers(factory):
    params = LoRA(rank=64, layers=(0, 2)).init(LoRA(rank=64, layers=(0, 2)).attach(factory()), {}, torch.Generator())
    layers = {name.removeprefix("model.encoder.layer.").split(".")[0] for name in params}
    assert layers == {"0", "2"}
    assert {name.rsplit(".", 2)[1] for name in params} == {"query", "value"}
    a = params["model.encoder.layer.0.attention.self.query.lora_A"]
    assert a.shape == (64, 16)
    assert 0.24 < a.abs().max() <= 0.25
    assert abs(a.mean()) < 0.02


def test_targets_match_whole_components(factory):
    with pytest.raises(ValueError, match="match no linear layer"):
        LoRA(targets=("uery",)).attach(factory())
    params = LoRA(targets=("attention.output.dense",)).attach(factory()).state_dict()
    assert sum(name.endswith("lora_A") for name in params) == 3


@pytest.mark.parametrize("delta", [LoRA(targets=("q_proj",)), LoRA(layers=(7,)), LoRA(targets=())])
def test_nothing_matched_lists_what_there_is(delta, factory):
    with pytest.raises(ValueError, match=r"there are: .*model\.encoder\.layer\.0\.attention\.self\.query"):
        delta.attach(factory())


def test_refuses_a_rank_and_a_wrong_number_of_rows(factory, inputs):
    with pytest.raises(ValueError, match="rank is 0"):
        LoRA(rank=0).attach(factory())
    delta = LoRA(rank=2)
    stacked = {name: tensor.expand(3, *tensor.shape) for name, tensor in drawn(delta, factory, 0).items()}
    with pytest.raises(ValueError, match="3 rows were given, but the batch has 5"):
        functional_call(delta.attach(factory()), stacked, (inputs,))


def test_attaching_twice_is_refused(factory):
    module = LoRA().attach(factory())
    with pytest.raises(ValueError, match="match no linear layer"):
        LoRA().attach(module)


def test_pruning_drops_the_ranks_that_hardly_count_and_keeps_the_product():
    generator = torch.Generator().manual_seed(0)
    params = {}
    for layer, strong in (("one", 2), ("two", 3)):
        scales = torch.tensor([1.0] * strong + [1e-4] * (5 - strong))[torch.randperm(5, generator=generator)]
        params[f"{layer}.lora_A"] = torch.randn(5, 7, generator=generator)
        params[f"{layer}.lora_B"] = torch.randn(6, 5, generator=generator) * scales
    for before in (LoRA(5, 10), LoRA(5, 10, rslora=True)):
        after, found = pruned(before, params)
        assert after.rank == 3
        for layer in ("one", "two"):
            whole, rest = (
                lora.scale * tensors[f"{layer}.lora_B"] @ tensors[f"{layer}.lora_A"]
                for lora, tensors in ((before, params), (after, found))
            )
            torch.testing.assert_close(rest, whole, atol=0.02, rtol=0)
    assert int((pruned(LoRA(5), params)[1]["one.lora_B"].norm(dim=0) > 0).sum()) == 2
    assert pruned(LoRA(5), params, 0.0)[0].rank == 5
    with pytest.raises(ValueError, match="share is 1"):
        pruned(LoRA(5), params, 1)
