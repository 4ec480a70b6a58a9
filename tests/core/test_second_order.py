"""Which models can be differentiated twice, and what helps those that cannot."""

import pytest
import torch
import transformers
from torch.func import functional_call
from torch.overrides import TorchFunctionMode

from quickstudy.core.errors import NoSecondOrder
from quickstudy.core.inner import InnerLoop, adapt_parameters
from quickstudy.core.optimisers import SGD
from quickstudy.core.parameters import digest
from quickstudy.core.second_order import ensure_second_order, math_attention, supports_second_order

NO_TOKENS = {"bos_token_id": None, "eos_token_id": None, "pad_token_id": 0}
BERT = {"vocab_size": 20, "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8}
DRY = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0, "max_position_embeddings": 16}


def bert(**changes):
    return transformers.BertModel(transformers.BertConfig(**{**BERT, **DRY, **changes}))


def roberta():
    return transformers.RobertaModel(transformers.RobertaConfig(**BERT, **DRY, **NO_TOKENS))


def distilbert():
    sizes = {"vocab_size": 20, "dim": 8, "n_layers": 1, "n_heads": 2, "hidden_dim": 8, "max_position_embeddings": 16}
    return transformers.DistilBertModel(transformers.DistilBertConfig(**sizes, dropout=0.0, attention_dropout=0.0))


def gpt2():
    sizes = {"vocab_size": 20, "n_embd": 8, "n_layer": 1, "n_head": 2, "n_positions": 16}
    dry = {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}
    return transformers.GPT2Model(transformers.GPT2Config(**sizes, **dry, **NO_TOKENS))


def llama():
    config = transformers.LlamaConfig(**BERT, num_key_value_heads=1, max_position_embeddings=16, **NO_TOKENS)
    return transformers.LlamaModel(config)


def t5():
    sizes = {"vocab_size": 20, "d_model": 8, "d_kv": 4, "d_ff": 8, "num_layers": 1, "num_heads": 2}
    return transformers.T5EncoderModel(transformers.T5Config(**sizes, dropout_rate=0.0, **NO_TOKENS))


MODELS = [bert, roberta, distilbert, gpt2, llama, t5]
PADDED = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0], [1, 1, 1, 1, 0]])


@pytest.fixture(params=MODELS, ids=lambda build: build.__name__)
def model(request):
    torch.manual_seed(0)
    # Weights of the usual 0.02 leave attention almost uniform, where a wrong second derivative would not show.
    built = request.param().double()
    with torch.no_grad():
        for tensor in built.parameters():
            if tensor.dim() > 1:
                tensor.copy_(torch.randn_like(tensor) / 2)
    return built.requires_grad_(False)


def call(mask):
    ids = torch.randint(1, 20, (3, 5), generator=torch.Generator().manual_seed(1)) * PADDED
    if mask is None:
        return lambda module: module(input_ids=ids.clamp(min=1)).last_hidden_state
    return lambda module: module(input_ids=ids, attention_mask=mask).last_hidden_state * mask[..., None]


def attention_weights(model):
    """One matrix on the way to the attention scores, one after them."""
    before = ("query.weight", "q_lin.weight", "q_proj.weight", "q.weight", "c_attn.weight")
    after = ("output.dense.weight", "lin2.weight", "mlp.c_proj.weight", "down_proj.weight", "wo.weight")
    named = [name for name, _ in model.named_parameters()]
    return [next(name for name in named if name.endswith(endings)) for endings in (before, after)]


def meta_loss(model, mask):
    """Query loss after one inner step, as a function of two weight matrices."""
    run = call(mask)
    goal = torch.randn(3, 5, 8, generator=torch.Generator().manual_seed(2), dtype=torch.float64)

    def loss(params, shift):
        states = functional_call(Called(model, run), {f"module.{n}": t for n, t in params.items()}, ())
        return ((states - goal.roll(shift, 0)).square()).mean()

    def outer(params, order="second"):
        adapted = adapt_parameters(lambda p: loss(p, 0), params, InnerLoop(1, SGD(0.5), order=order))
        return loss(adapted, 1)

    return outer


class Called(torch.nn.Module):
    def __init__(self, module, run):
        super().__init__()
        self.module = module
        self.run = run

    def forward(self):
        return self.run(self.module)


class AllInFloat64(TorchFunctionMode):
    """Some models compute norms and softmax in float32 whatever their own type is; differences need all digits."""

    def __torch_function__(self, function, types, args=(), kwargs=None):
        function = torch.Tensor.double if function is torch.Tensor.float else function
        return function(*map(self._widen, args), **{key: self._widen(value) for key, value in (kwargs or {}).items()})

    def _widen(self, value):
        return torch.float64 if value is torch.float32 else value


def agrees_with_differences(outer, params):
    leaves = {name: tensor.clone().requires_grad_() for name, tensor in params.items()}
    grads = torch.autograd.grad(outer(leaves), list(leaves.values()))
    held = torch.autograd.grad(outer(leaves, "first"), list(leaves.values()))
    draw = torch.Generator().manual_seed(3)
    moves = [torch.randn(t.shape, generator=draw, dtype=t.dtype) for t in params.values()]

    def along(found):
        return sum((grad * move).sum() for grad, move in zip(found, moves, strict=True)).item()

    def value(step):
        moved = {n: t + step * move for (n, t), move in zip(params.items(), moves, strict=True)}
        return outer(moved).item()

    step = 1e-4
    # Four points: the error goes with the fourth power of the step.
    expected = (8 * (value(step) - value(-step)) - (value(2 * step) - value(-2 * step))) / (12 * step)
    assert along(grads) == pytest.approx(expected, rel=1e-6)
    assert abs(along(held) - expected) > 1e-3 * abs(expected)


@pytest.mark.parametrize("mask", [None, PADDED], ids=["full", "padded"])
@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
def test_after_the_probe_second_order_equals_finite_differences(model, training, mask):
    model.train(training)
    before = digest(model.state_dict())
    info = ensure_second_order(model, call(mask), lambda: model.set_attn_implementation("eager"))
    assert model.training is training
    assert digest(model.state_dict()) == before
    assert not any(tensor.requires_grad or tensor.grad is not None for tensor in model.parameters())
    assert len(info.notes) == 1
    assert model.config._attn_implementation == "eager"
    params = {name: model.get_parameter(name) for name in attention_weights(model)}
    with AllInFloat64():
        agrees_with_differences(meta_loss(model, mask), params)


@pytest.mark.parametrize("mask", [None, PADDED], ids=["full", "padded"])
@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
def test_math_attention_helps_without_a_switch(model, training, mask):
    model.train(training)
    params = {name: model.get_parameter(name) for name in attention_weights(model)}
    with math_attention(), AllInFloat64():
        assert ensure_second_order(model, call(mask)).notes == ()
        agrees_with_differences(meta_loss(model, mask), params)


def test_fused_attention_is_noticed(model):
    with pytest.raises(NoSecondOrder, match="offers no other attention"):
        ensure_second_order(model, call(PADDED))
    with pytest.raises(NoSecondOrder, match="not even with attention switched"):
        ensure_second_order(model, call(PADDED), lambda: None)
    info = ensure_second_order(model, call(PADDED), lambda: model.set_attn_implementation("eager"))
    assert f"{type(model).__name__}: attention was switched" in info.notes[0]
    assert ensure_second_order(model, call(PADDED)).notes == ()


def test_a_few_parameters_are_enough_to_probe_with(model):
    few = {name: model.get_parameter(name) for name in attention_weights(model)}
    with pytest.raises(NoSecondOrder):
        ensure_second_order(model, call(PADDED), params=few)


def test_what_t5_can_depends_on_the_tensors_that_move():
    """Its position bias, while it moves, keeps the fused kernel away; so the module is judged by the worst case."""
    model = t5().requires_grad_(False)
    run = lambda p: functional_call(Called(model, call(None)), {f"module.{n}": t for n, t in p.items()}, ())  # noqa: E731
    assert supports_second_order(run, dict(model.named_parameters()))
    assert not supports_second_order(run, {name: model.get_parameter(name) for name in attention_weights(model)})


def test_dropout_hides_the_fused_kernel_in_training_only():
    model = bert(attention_probs_dropout_prob=0.1).train()
    run = lambda p: functional_call(Called(model, call(None)), {f"module.{n}": t for n, t in p.items()}, ())  # noqa: E731
    params = dict(model.named_parameters())
    assert supports_second_order(run, params)
    model.eval()
    assert not supports_second_order(run, params)
    with pytest.raises(NoSecondOrder):
        ensure_second_order(model.train(), call(None))


def test_plain_functions():
    draw = torch.randn(3, 3)
    assert supports_second_order(lambda p, x: torch.tanh(x @ p["w"]), {"w": draw, "n": torch.tensor(2)}, draw)
    assert supports_second_order(lambda p: p["w"] * 2, {"w": draw, "unused": draw})


class Once(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x.square()

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad):
        return 2 * ctx.saved_tensors[0] * grad


def test_a_function_marked_as_once_differentiable_is_noticed():
    assert not supports_second_order(lambda p: Once.apply(p["w"]), {"w": torch.randn(3)})


def test_other_errors_are_not_taken_for_a_missing_derivative():
    with pytest.raises(RuntimeError, match="shape"):
        supports_second_order(lambda p: p["w"] @ torch.zeros(7, 7), {"w": torch.randn(3, 3)})
