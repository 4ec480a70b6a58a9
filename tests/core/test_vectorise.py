"""Four ways to run many tasks: they agree, the fastest is remembered, padding does not count."""

import gc
import threading

import pytest
import torch
import transformers
from torch.func import functional_call
from torch.nn import functional

from quickstudy.core.attention_mask import additive_mask
from quickstudy.core.errors import NotAvailable
from quickstudy.core.functional import Functional
from quickstudy.core.inner import InnerLoop, adapt_parameters
from quickstudy.core.optimisers import SGD
from quickstudy.core.stacking import stack_episodes, unstack
from quickstudy.core.types import Batch, Episode
from quickstudy.core.vectorise import Choices, mean_loss_and_gradients, over_tasks

MODES = ("vmap", "chunks", "loop")


def generator(seed):
    return torch.Generator().manual_seed(seed)


def batch(inputs, ways, draw):
    rows = len(inputs["input_ids"]) if isinstance(inputs, dict) else len(inputs)
    return Batch(inputs, torch.randint(ways, (rows,), generator=draw), torch.ones(rows), ways)


def episode(seed, rows=(4, 6), shape=(3,), ways=3):
    draw = generator(seed)
    support, query = (batch(torch.randn(n, *shape, generator=draw), ways, draw) for n in rows)
    return Episode(support, query, f"task {seed}", tuple("abcdef"[:ways]))


def texts(seed, rows, longest, ways=2):
    """Right-padded rows of random length."""
    draw = generator(seed)
    lengths = torch.randint(2, longest + 1, (rows,), generator=draw)
    mask = (torch.arange(longest) < lengths[:, None]).long()
    ids = torch.randint(3, 20, (rows, longest), generator=draw) * mask
    return batch({"input_ids": ids, "attention_mask": mask}, ways, draw)


def cross_entropy(logits, side):
    each = functional.cross_entropy(logits, side.targets, reduction="none")
    return (each * side.weights).sum() / side.weights.sum()


def meta_loss(network, options):
    """The query loss after an inner loop on the support set."""

    def loss(params, task):
        inner = lambda p: cross_entropy(network(p, task.support.inputs), task.support)  # noqa: E731 - short
        adapted = adapt_parameters(inner, params, options)
        return cross_entropy(network(adapted, task.query.inputs), task.query)

    return loss


def of_module(module):
    params = {name: tensor.detach().clone() for name, tensor in module.named_parameters()}
    return lambda p, x: functional_call(module, p, (x,)), params


def mlp():
    torch.manual_seed(0)
    network, params = of_module(torch.nn.Sequential(torch.nn.Linear(3, 8), torch.nn.Tanh(), torch.nn.Linear(8, 3)))
    return network, params, [episode(seed) for seed in range(5)]


def conv():
    torch.manual_seed(0)
    layers = [torch.nn.Conv2d(1, 4, 3, padding=1), torch.nn.ReLU(), torch.nn.MaxPool2d(2), torch.nn.Flatten()]
    network, params = of_module(torch.nn.Sequential(*layers, torch.nn.Linear(36, 3)))
    return network, params, [episode(seed, shape=(1, 6, 6)) for seed in range(5)]


def bert():
    """A frozen BERT with a low-rank change of the query projections, and a linear head."""
    torch.manual_seed(0)
    sizes = {"vocab_size": 20, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = transformers.BertConfig(**sizes, intermediate_size=16, max_position_embeddings=16, initializer_range=0.3)
    model = transformers.BertModel(config, add_pooling_layer=False).requires_grad_(False).eval()
    model.set_attn_implementation("eager")
    weights = {n: w for n, w in model.named_parameters() if n.endswith("query.weight")}
    params = {"head": torch.randn(16, 2)}
    for name in weights:
        params[f"A.{name}"], params[f"B.{name}"] = torch.randn(16, 2) / 4, torch.randn(2, 16) / 4

    def network(p, x):
        moved = {name: weight + p[f"A.{name}"] @ p[f"B.{name}"] for name, weight in weights.items()}
        mask = additive_mask(x["attention_mask"])
        states = functional_call(model, moved, (x["input_ids"],), {"attention_mask": mask}).last_hidden_state
        real = x["attention_mask"][..., None].to(states.dtype)
        return (states * real).sum(1) / real.sum(1).clamp(min=1) @ p["head"]

    longest = (7, 5, 9, 6, 8)
    return network, params, [Episode(texts(n, 3, n, 2), texts(n + 9, 4, n, 2)) for n in longest]


@pytest.fixture(params=[mlp, conv, bert], ids=["mlp", "conv", "bert"])
def case(request):
    network, params, episodes = request.param()
    return meta_loss(network, InnerLoop(2, SGD(0.3))), params, episodes


def close(a, b):
    torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5)


def by_hand(loss, params, episodes, shares):
    leaves = {name: tensor.clone().requires_grad_() for name, tensor in params.items()}
    losses = torch.stack([loss(leaves, task) for task in episodes])
    grads = torch.autograd.grad((losses * shares).sum(), list(leaves.values()))
    return losses.detach(), dict(zip(leaves, grads, strict=True))


@pytest.mark.parametrize("mode", MODES)
def test_losses_and_gradients_are_those_of_one_unpadded_episode_after_the_other(case, mode):
    loss, params, episodes = case
    expected = by_hand(loss, params, episodes, torch.full((5,), 0.2))
    found = mean_loss_and_gradients(loss, params, stack_episodes(episodes), mode, chunk=2)
    close(found, expected)
    assert min(grad.abs().max() for grad in found[1].values()) > 1e-4
    assert not any(tensor.requires_grad for tensor in [found[0], *found[1].values(), *params.values()])
    close(over_tasks(loss, mode, chunk=2)(params, stack_episodes(episodes)), expected[0])


@pytest.mark.parametrize("mode", MODES)
def test_weights_of_tasks(mode):
    network, params, episodes = mlp()
    loss = meta_loss(network, InnerLoop(1))
    weights = torch.tensor([1.0, 0.0, 2.0, 0.0, 1.0])
    found = mean_loss_and_gradients(loss, params, stack_episodes(episodes), mode, chunk=2, weights=weights)
    close(found, by_hand(loss, params, episodes, weights / 4))


@pytest.mark.parametrize("mode", MODES)
def test_loss_without_parameters_and_whole_numbers_get_no_gradient(mode):
    stack = stack_episodes(mlp()[2])
    params = {"w": torch.ones(2), "count": torch.tensor(3)}
    losses, grads = mean_loss_and_gradients(lambda p, e: e.query.inputs.mean(), params, stack, mode)
    assert losses.shape == (5,)
    assert list(grads) == ["w"]
    assert torch.equal(grads["w"], torch.zeros(2))


@pytest.mark.parametrize("mode", MODES)
def test_results_are_stacked_trees(mode):
    stack = stack_episodes(mlp()[2])
    found = over_tasks(lambda p, e: {"sum": e.query.inputs.sum(), "x": (e.support.inputs * p["w"],)}, mode, chunk=2)
    result = found({"w": torch.tensor(2.0)}, stack)
    assert result["sum"].shape == (5,)
    assert torch.equal(result["x"][0], stack.support.inputs * 2)


@pytest.mark.parametrize("mode", MODES)
def test_dropout_draws_differently_for_each_task(mode):
    stack = stack_episodes([episode(0)] * 4)
    drop = over_tasks(lambda p, e: functional.dropout(torch.ones(64), 0.5), mode, chunk=2)({}, stack)
    assert len({tuple(row.tolist()) for row in drop}) == 4


@pytest.fixture
def two_threads():
    """So that "threads" shares the tasks out, whatever the machine has."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    assert torch.get_num_threads() == 2
    torch.set_num_threads(before)


@pytest.mark.parametrize("chunk", [1, 2])
@pytest.mark.parametrize("threads", [1, 2, 7])
def test_threads_give_what_the_loop_gives(threads, chunk):
    """Each thread has a skeleton of its own."""
    before = torch.get_num_threads()
    network = Functional(lambda: torch.nn.Sequential(torch.nn.Conv2d(1, 3, 3), torch.nn.Tanh(), torch.nn.Flatten()))
    params = {"0.weight": torch.randn(3, 1, 3, 3, generator=generator(0)), "0.bias": torch.zeros(3)}
    loss = meta_loss(network, InnerLoop(2, SGD(0.3)))
    stack = stack_episodes([episode(seed, shape=(1, 3, 3)) for seed in range(5)])
    weights = torch.tensor([1.0, 0.0, 2.0, 3.0, 1.0])
    torch.set_num_threads(threads)
    try:
        found = mean_loss_and_gradients(loss, params, stack, "threads", chunk, weights=weights)
        scores = over_tasks(loss, "threads", chunk)(params, stack)
    finally:
        torch.set_num_threads(before)
    expected = mean_loss_and_gradients(loss, params, stack, "loop", weights=weights)
    close(found, expected)
    close(scores, expected[0])


@pytest.mark.usefixtures("two_threads")
def test_threads_work_side_by_side_each_with_one_thread_of_torch():
    seen, together = [], threading.Barrier(2, timeout=10)

    def function(params, task):
        seen.append((threading.get_ident(), torch.get_num_threads(), torch.is_grad_enabled()))
        together.wait()
        return task.query.inputs.sum()

    stack = stack_episodes(mlp()[2])
    with torch.no_grad():
        over_tasks(function, "threads")({}, stack)
    assert len({thread for thread, _, _ in seen} - {threading.get_ident()}) == 2
    assert {(count, grad) for _, count, grad in seen} == {(1, False)}


@pytest.mark.usefixtures("two_threads")
def test_an_error_in_a_thread_is_raised():
    def function(params, task):
        raise ZeroDivisionError("in a thread")

    with pytest.raises(ZeroDivisionError, match="in a thread"):
        over_tasks(function, "threads")({}, stack_episodes(mlp()[2]))


def test_auto_measures_once_for_each_shape_and_remembers():
    network, params, episodes = mlp()
    calls = []

    def function(p, task):
        calls.append(1)
        return network(p, task.query.inputs)

    mapped = over_tasks(function, "auto", chunk=2)
    stack = stack_episodes(episodes)
    expected = over_tasks(function, "loop")(params, stack)
    calls.clear()
    close(mapped(params, stack), expected)
    assert len(calls) == 1 + 1 + 3 + 5, "warm-up, vmap, three chunks, loop"
    assert set(mapped.info().values) == {"seconds.vmap", "seconds.chunks", "seconds.loop"}
    fastest = min(mapped.info().values, key=mapped.info().values.get).removeprefix("seconds.")
    assert f"{fastest} was chosen" in mapped.info().notes[0]
    calls.clear()
    close(mapped(params, stack), expected)
    assert len(calls) == {"vmap": 1, "chunks": 3, "loop": 5}[fastest]
    mapped(params, stack_episodes([episode(seed, rows=(4, 60)) for seed in range(5)]))
    assert len(mapped.info().notes) == 2


def test_what_was_chosen_can_be_handed_on():
    network, params, episodes = mlp()
    loss, stack = meta_loss(network, InnerLoop(1)), stack_episodes(episodes)
    first = Choices()
    expected = mean_loss_and_gradients(loss, params, stack, choices=first)
    (shapes,) = first.chosen()
    for mode in MODES:
        later = Choices({shapes: mode})
        close(mean_loss_and_gradients(loss, params, stack, choices=later), expected)
        assert later.info().notes == ()


def test_measuring_leaves_the_generator_as_the_chosen_mode_alone_would():
    def draw(numbers):
        return torch.stack([torch.rand(()) for _ in range(numbers)])

    routes = {"vmap": lambda: draw(3), "loop": lambda: draw(3000)}
    choices, found = Choices(), []
    for _ in ("measured", "known"):
        torch.manual_seed(3)
        found.append((choices.run("shapes", routes, ["vmap", "loop"], lambda: draw(5)), torch.rand(2)))
    assert choices.chosen() == {"shapes": "vmap"}
    assert torch.equal(found[0][0], found[1][0])
    assert torch.equal(found[0][1], found[1][1])


@pytest.mark.parametrize("count", [1, 2])
def test_auto_tries_only_what_differs(count):
    mapped = over_tasks(lambda p, e: e.query.inputs.sum(), "auto", chunk=2)
    mapped({}, stack_episodes([episode(seed) for seed in range(count)]))
    assert set(mapped.info().values) == {1: {"seconds.loop"}, 2: {"seconds.loop", "seconds.vmap"}}[count]


def test_auto_falls_back_to_the_loop_and_says_why():
    def reads_values(params, task):
        return params["w"] * task.query.inputs.sum().item()

    stack, params = stack_episodes(mlp()[2]), {"w": torch.tensor(2.0)}
    mapped = over_tasks(reads_values, "auto")
    close(mapped(params, stack), 2 * stack.query.inputs.sum((1, 2)))
    assert any(note.startswith("vmap does not work here") for note in mapped.info().notes)
    with pytest.raises(RuntimeError, match="vmap"):
        over_tasks(reads_values, "vmap")(params, stack)


def test_auto_runs_a_checkpointed_inner_loop_one_by_one():
    network, params, episodes = mlp()
    stack, choices = stack_episodes(episodes), Choices()
    saved = meta_loss(network, InnerLoop(2, checkpoint=True))
    found = mean_loss_and_gradients(saved, params, stack, choices=choices)
    close(found, mean_loss_and_gradients(meta_loss(network, InnerLoop(2)), params, stack, "loop"))
    assert list(choices.chosen().values()) == ["loop"]
    with pytest.raises(NotAvailable, match='mode="loop"'):
        mean_loss_and_gradients(saved, params, stack, "vmap")


def test_auto_hides_no_other_error():
    def wrong(params, task):
        return task.query.inputs @ torch.zeros(7, 7)

    with pytest.raises(RuntimeError, match="shape"):
        over_tasks(wrong, "auto")({}, stack_episodes(mlp()[2]))


def test_a_two_dimensional_mask_is_what_vmap_cannot_do():
    """Why `additive_mask` exists: the same model, the same tasks, the mask as the tokeniser gives it."""
    sizes = {"vocab_size": 20, "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = transformers.BertConfig(**sizes, intermediate_size=8, max_position_embeddings=16)
    model = transformers.BertModel(config).eval()
    model.set_attn_implementation("eager")
    stack = stack_episodes([Episode(texts(n, 3, 6), texts(n, 3, 6)) for n in range(3)])

    def states(mask):
        return lambda p, e: (
            functional_call(
                model, p, (e.query.inputs["input_ids"],), {"attention_mask": mask(e.query.inputs["attention_mask"])}
            ).last_hidden_state
        )

    params = dict(model.named_parameters())
    with torch.no_grad():
        with pytest.raises(RuntimeError, match="vmap"):
            over_tasks(states(lambda mask: mask), "vmap")(params, stack)
        plain = over_tasks(states(lambda mask: mask), "loop")(params, stack)
        found = over_tasks(states(additive_mask), "vmap")(params, stack)
    real = stack.query.inputs["attention_mask"].bool()
    close(found[real], plain[real])


def test_additive_mask():
    mask = additive_mask(torch.tensor([[1, 1, 0], [0, 0, 0]]), torch.float64)
    assert mask.shape == (2, 1, 1, 3)
    assert mask[0, 0, 0].tolist() == [0, 0, torch.finfo(torch.float64).min]
    assert torch.isfinite(torch.softmax(mask + torch.randn(2, 1, 3, 3), -1)).all()
    with pytest.raises(ValueError, match=r"expected \[example, token\]"):
        additive_mask(torch.ones(3))


def test_stacking_pads_every_axis_with_zeros():
    ragged = [episode(0, (2, 3), (4,), 2), episode(1, (5, 1), (6,), 4)]
    stack = stack_episodes(ragged)
    assert stack.support.inputs.shape == (2, 5, 6)
    assert stack.query.inputs.shape == (2, 3, 6)
    assert (stack.support.ways, stack.query.ways) == (4, 4)
    assert stack.support.weights.tolist() == [[1, 1, 0, 0, 0], [1] * 5]
    assert stack.labels == ()
    assert stack.support.inputs[0, 2:].abs().sum() == stack.support.inputs[0, :, 4:].abs().sum() == 0
    assert torch.equal(stack.support.inputs[0, :2, :4], ragged[0].support.inputs)
    assert torch.equal(stack.query.targets[1, :1], ragged[1].query.targets)


def test_unstack_gives_the_episodes_back():
    episodes = [episode(seed) for seed in range(3)]
    for found, expected in zip(unstack(stack_episodes(episodes)), episodes, strict=True):
        assert (found.task, found.labels) == (expected.task, expected.labels)
        assert torch.equal(found.support.inputs, expected.support.inputs)
        assert torch.equal(found.query.targets, expected.query.targets)


@pytest.mark.parametrize("mode", [*MODES, "threads", "auto"])
def test_a_list_gives_what_its_stack_does_and_what_runs_alone_is_not_padded(mode):
    ragged = [episode(number, rows, (3,), 3) for number, rows in enumerate([(2, 3), (5, 1), (4, 4), (3, 2)])]
    seen = []

    def loss(params, task):
        seen.append(tuple(task.support.inputs.shape))
        logits = task.support.inputs @ params["weight"]
        return cross_entropy(logits, task.support) + cross_entropy(task.query.inputs @ params["weight"], task.query)

    params = {"weight": torch.randn(3, 3, generator=generator(9))}
    expected = mean_loss_and_gradients(loss, params, stack_episodes(ragged), "loop")
    seen.clear()
    found = mean_loss_and_gradients(loss, params, ragged, mode, chunk=1 if mode == "threads" else 2)
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(over_tasks(loss, mode, 1 if mode == "threads" else 2)(params, ragged), expected[0])
    if mode in ("loop", "threads"):
        assert set(seen) == {(2, 3), (5, 3), (4, 3), (3, 3)}


def test_what_does_not_stack_is_refused():
    with pytest.raises(ValueError, match="no episodes"):
        stack_episodes([])
    with pytest.raises(ValueError, match="axes or types"):
        stack_episodes([episode(0), episode(1, shape=(3, 3))])
    words = texts(0, 3, 4)
    with pytest.raises(ValueError, match="episode 1 has inputs of other names"):
        stack_episodes([episode(0), Episode(words, words)])


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"mode": "fast"}, "give one of auto, vmap"),
        ({"chunk": 0}, "chunk is 0"),
        ({"weights": torch.ones(2)}, r"expected \[5\]"),
        ({"weights": torch.zeros(5)}, "above 0"),
    ],
)
def test_wrong_arguments_are_refused(wrong, message):
    network, params, episodes = mlp()
    with pytest.raises(ValueError, match=message):
        mean_loss_and_gradients(meta_loss(network, InnerLoop(1)), params, stack_episodes(episodes), **wrong)


def test_a_single_episode_is_not_a_stack():
    with pytest.raises(ValueError, match="expected a stack"):
        over_tasks(lambda p, e: e.query.inputs.sum(), "vmap")({}, episode(0))
    with pytest.raises(ValueError, match="expected a stack"):
        unstack(episode(0))


@pytest.mark.parametrize("mode", MODES)
def test_nothing_is_left_behind(mode):
    network, params, episodes = mlp()
    loss, stack = meta_loss(network, InnerLoop(1)), stack_episodes(episodes)

    def live():
        gc.collect()
        return sum(issubclass(type(thing), torch.Tensor) for thing in gc.get_objects())

    counts = []
    for number in range(60):
        mean_loss_and_gradients(loss, params, stack, mode, chunk=2)
        if number in {9, 59}:
            counts.append(live())
    assert counts[0] == counts[1]
    assert all(tensor.grad is None for tensor in params.values())
