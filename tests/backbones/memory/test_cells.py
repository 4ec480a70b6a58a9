"""Each cell's step is that of its paper, written out by loops here; the plain module carries on where it stopped."""

import itertools

import pytest
import torch
from torch.nn.functional import cosine_similarity, softplus

from quickstudy.backbones.memory import DNCCell, LRUCell, LSTMCell, MemoryNetwork, NTMCell, unroll
from quickstudy.backbones.memory.dnc import unused
from quickstudy.backbones.memory.lru import least_used
from quickstudy.backbones.memory.ntm import BLANK

ROWS, COLUMNS, HIDDEN = 6, 4, 7
CELLS = {
    "ntm": NTMCell(3, 2, rows=ROWS, columns=COLUMNS, hidden=HIDDEN),
    "ntm, lstm, two heads, reach 2": NTMCell(3, 2, ROWS, COLUMNS, HIDDEN, heads=2, reach=2, controller="lstm"),
    "dnc": DNCCell(3, 2, rows=ROWS, columns=COLUMNS, hidden=HIDDEN, reads=2),
    "dnc, feedforward": DNCCell(3, 2, ROWS, COLUMNS, HIDDEN, reads=1, controller="feedforward"),
    "lru": LRUCell(3, 2, rows=ROWS, columns=COLUMNS, hidden=HIDDEN, heads=2),
    "lru, at once": LRUCell(3, 2, ROWS, COLUMNS, HIDDEN, heads=1, delayed=False),
    "lstm": LSTMCell(3, 2, HIDDEN),
}
EVERY = pytest.mark.parametrize("cell", CELLS.values(), ids=CELLS)


def drawn(cell, seed=0, loud=1.0):
    """Parameters with biases that are not 0, so that nothing is tested at a point of symmetry."""
    draw = torch.Generator().manual_seed(seed)
    start = cell.init(draw)
    return {name: tensor + 0.3 * loud * torch.randn(tensor.shape, generator=draw) for name, tensor in start.items()}


def inputs(batch=3, time=5, seed=1):
    return torch.randn(batch, time, 3, generator=torch.Generator().manual_seed(seed))


@EVERY
def test_the_module_carries_on_where_it_stopped(cell):
    network = MemoryNetwork(cell, torch.Generator().manual_seed(0))
    outputs, state = network(inputs())
    first, middle = network(inputs()[:, :2])
    second, last = network(inputs()[:, 2:], middle)
    assert outputs.shape == (3, 5, 2)
    torch.testing.assert_close(torch.cat([first, second], 1), outputs)
    torch.testing.assert_close(last, state)


@EVERY
def test_gradients_reach_every_parameter_and_are_those_of_finite_differences(cell):
    params = {name: tensor.double().requires_grad_() for name, tensor in drawn(cell).items()}
    outputs, _ = unroll(cell, params, inputs().double())
    loss = outputs.square().sum()
    found = dict(zip(params, torch.autograd.grad(loss, list(params.values())), strict=True))
    assert all(bool(grad.any()) for grad in found.values())
    draw = torch.Generator().manual_seed(3)
    step = {
        name: 1e-5 * torch.randn(tensor.shape, generator=draw, dtype=torch.float64) for name, tensor in params.items()
    }
    with torch.no_grad():
        ends = [
            unroll(cell, {n: t + sign * step[n] for n, t in params.items()}, inputs().double())[0].square().sum()
            for sign in (-1, 1)
        ]
    slope = sum((found[name] * step[name]).sum() for name in params)
    assert float(ends[1] - ends[0]) / 2 == pytest.approx(float(slope), rel=1e-4)


@EVERY
def test_sequences_of_a_batch_do_not_meet(cell):
    params = drawn(cell)
    together, _ = unroll(cell, params, inputs())
    alone = torch.cat([unroll(cell, params, row[None])[0] for row in inputs()])
    torch.testing.assert_close(alone, together)


@EVERY
def test_rows_that_are_not_real_leave_the_state_alone(cell):
    params, rows = drawn(cell), inputs()
    real = torch.tensor([[1, 0, 1, 0, 1], [1, 1, 1, 0, 0], [0, 0, 1, 1, 1]]).bool()
    _, state = unroll(cell, params, rows, real=real)
    for number, kept in enumerate(real):
        _, alone = unroll(cell, params, rows[number : number + 1, kept])
        for name, tensor in alone.items():
            torch.testing.assert_close(state[name][number : number + 1], tensor)


@pytest.mark.parametrize("cell", [CELLS["ntm"], CELLS["ntm, lstm, two heads, reach 2"]], ids=["one head", "two"])
def test_a_step_of_the_turing_machine(cell):
    params, state = drawn(cell), started(cell)
    features, later = one_step(cell, params, state)
    heads, both = cell.heads, 2 * cell.heads
    hidden = features[0, :HIDDEN]
    said = params["head_weight"] @ hidden + params["head_bias"]
    keys, adds, erases, gates, strengths, sharps, shifts = said.split(
        [both * COLUMNS, heads * COLUMNS, heads * COLUMNS, both, both, both, both * (2 * cell.reach + 1)]
    )
    memory, weights = state["memory"][0], []
    for head in range(both):
        key = keys.view(both, -1)[head].tanh()
        content = (cosine_similarity(key[None], memory) * softplus(strengths[head])).softmax(0)
        gate = gates[head].sigmoid()
        gated = gate * content + (1 - gate) * state["weights"][0, head]
        shift = shifts.view(both, -1)[head].softmax(0)
        moved = torch.zeros(ROWS)
        for row, move in itertools.product(range(ROWS), range(-cell.reach, cell.reach + 1)):
            moved[(row + move) % ROWS] += gated[row] * shift[move + cell.reach]
        power = moved ** (1 + softplus(sharps[head]))
        weights.append(power / power.sum())
    for head in range(heads):
        memory = memory * (1 - weights[heads + head][:, None] * erases.view(heads, -1)[head].sigmoid())
    for head in range(heads):
        memory = memory + weights[heads + head][:, None] * adds.view(heads, -1)[head].tanh()
    close(later["weights"][0], torch.stack(weights))
    close(later["memory"][0], memory)
    close(features[0, HIDDEN:], torch.cat([weight @ memory for weight in weights[:heads]]))


def test_a_turing_machine_starts_blank_and_at_the_first_row():
    cell = CELLS["ntm"]
    state = cell.start(cell.init(torch.Generator().manual_seed(0)), 2)
    assert bool((state["memory"] == BLANK).all())
    assert bool((state["weights"][:, :, 0] > 0.99).all())


@pytest.mark.parametrize("cell", [CELLS["dnc"], CELLS["dnc, feedforward"]], ids=["two reads", "one read"])
def test_a_step_of_the_differentiable_computer(cell):
    params, state = drawn(cell), started(cell)
    features, later = one_step(cell, params, state)
    reads, hidden = cell.reads, features[0, :HIDDEN]
    said = params["head_weight"] @ hidden + params["head_bias"]
    sizes = [reads * COLUMNS, COLUMNS, COLUMNS, COLUMNS, reads, 1, 1, reads, 1, 3 * reads]
    keys, key, vector, erase, free, gate, write, strengths, strength, modes = said.split(sizes)
    before = {name: tensor[0] for name, tensor in state.items()}
    kept = torch.ones(ROWS)
    for read in range(reads):
        kept = kept * (1 - free[read].sigmoid() * before["looking"][read])
    usage = (before["usage"] + before["writing"] - before["usage"] * before["writing"]) * kept
    content = (cosine_similarity(key[None], before["memory"]) * (1 + softplus(strength))).softmax(0)
    gate = gate.sigmoid()
    writing = write.sigmoid() * (gate * by_sorting(usage) + (1 - gate) * content)
    memory = before["memory"] * (1 - torch.outer(writing, erase.sigmoid())) + torch.outer(writing, vector)
    link = torch.zeros(ROWS, ROWS)
    for i, j in itertools.permutations(range(ROWS), 2):
        link[i, j] = (1 - writing[i] - writing[j]) * before["link"][i, j] + writing[i] * before["last"][j]
    for read in range(reads):
        mode = modes.view(reads, 3)[read].softmax(0)
        strength = 1 + softplus(strengths[read])
        alike = (cosine_similarity(keys.view(reads, -1)[read][None], memory) * strength).softmax(0)
        looked = before["looking"][read]
        close(later["looking"][0, read], mode[0] * link.T @ looked + mode[1] * alike + mode[2] * link @ looked)
    close(later["usage"][0], usage)
    close(later["writing"][0], writing)
    close(later["memory"][0], memory)
    close(later["link"][0], link)
    close(later["last"][0], (1 - writing.sum()) * before["last"] + writing)
    close(features[0, HIDDEN:], (later["looking"][0] @ memory).flatten())


def test_allocation_without_sorting_is_that_with_sorting():
    usage = torch.rand(20, ROWS, generator=torch.Generator().manual_seed(0))
    usage[5, 2:4] = usage[5, 0]
    usage[6] = 0
    usage[7, 1] = 1
    earlier = torch.ones(ROWS, ROWS).tril(-1)
    expected = torch.stack([by_sorting(row) for row in usage])
    torch.testing.assert_close(unused(usage, earlier), expected, atol=1e-5, rtol=1e-4)


def by_sorting(usage):
    """Equation 1 of the paper's methods."""
    found, product = torch.zeros(len(usage)), torch.tensor(1.0)
    for row in usage.argsort(stable=True).tolist():
        found[row] = (1 - usage[row]) * product
        product = product * usage[row]
    return found


@pytest.mark.parametrize("cell", [CELLS["lru"], CELLS["lru, at once"]], ids=["delayed", "at once"])
def test_a_step_of_least_recently_used_access(cell):
    params, state = drawn(cell), started(cell)
    features, later = one_step(cell, params, state)
    said = params["head_weight"] @ features[0, :HIDDEN] + params["head_bias"]
    keys, vectors, gates, strengths = said.split([cell.heads * COLUMNS, cell.heads * COLUMNS, cell.heads, cell.heads])
    order = state["usage"][0].argsort().tolist()
    memory, usage, writing = state["memory"][0].clone(), cell.fade * state["usage"][0], []
    for head in range(cell.heads):
        least = torch.eye(ROWS)[order[head]]
        gate = gates[head].sigmoid()
        writing.append(gate * state["looking"][0, head] + (1 - gate) * least)
        memory[order[head]] = 0
    for head in range(cell.heads):
        key = state["key"][0, head] if cell.delayed else keys.view(cell.heads, -1)[head].tanh()
        memory = memory + torch.outer(writing[head], key + vectors.view(cell.heads, -1)[head].tanh())
    for head in range(cell.heads):
        key = keys.view(cell.heads, -1)[head].tanh()
        looking = (cosine_similarity(key[None], memory) * (1 + softplus(strengths[head]))).softmax(0)
        close(later["looking"][0, head], looking)
        usage = usage + looking + writing[head]
    close(later["memory"][0], memory)
    close(later["usage"][0], usage)


def test_the_rows_used_least_are_found_in_their_order():
    usage = torch.tensor([[0.5, 0.1, 0.9, 0.0]])
    assert least_used(usage, 3).argmax(-1).tolist() == [[3, 1, 0]]


def test_the_lstm_is_that_of_torch():
    """torch orders the gates input, forget, candidate, output; here the candidate is last."""
    params = drawn(CELLS["lstm"])
    theirs = torch.nn.LSTM(3, HIDDEN, batch_first=True)

    def turned(tensor):
        enter, keep, leave, candidate = tensor.chunk(4)
        return torch.cat([enter, keep, candidate, leave])

    names = {"weight_ih_l0": "controller_input", "weight_hh_l0": "controller_state", "bias_ih_l0": "controller_bias"}
    values = {name: turned(params[ours]) for name, ours in names.items()}
    theirs.load_state_dict({**values, "bias_hh_l0": torch.zeros(4 * HIDDEN)})
    hidden, (_, carry) = theirs(inputs())
    outputs, state = unroll(CELLS["lstm"], params, inputs())
    torch.testing.assert_close(outputs, hidden @ params["output_weight"].T + params["output_bias"])
    torch.testing.assert_close(state["carry"], carry[0])


@pytest.mark.parametrize(
    ("cell", "words"),
    [
        (NTMCell(3, 2, rows=2), "at least 2 reach"),
        (NTMCell(3, 2, heads=0), "heads from 1"),
        (NTMCell(3, 2, hidden=0), "hidden are 3 and 0"),
        (NTMCell(3, 2, controller="gru"), "controller is 'gru'"),
        (DNCCell(3, 2, reads=0), "rows, columns and reads are 16, 16 and 0"),
        (LRUCell(3, 2, rows=2, heads=3), "as many rows as heads"),
        (LRUCell(3, 2, fade=1.0), "below 1"),
        (LSTMCell(0, 2), "inputs and hidden are 0"),
    ],
)
def test_sizes_without_meaning_are_refused(cell, words):
    with pytest.raises(ValueError, match=words):
        cell.init(torch.Generator())


def test_rows_of_another_width_are_refused():
    cell = CELLS["ntm"]
    for wrong in (torch.zeros(2, 4, 5), torch.zeros(2, 3), torch.zeros(2, 0, 3)):
        with pytest.raises(ValueError, match=r"expected \[batch, time, 3\]"):
            unroll(cell, cell.init(torch.Generator()), wrong)


def started(cell):
    """The state after a few steps, so that nothing in it is 0."""
    return unroll(cell, drawn(cell), inputs(1, 4, seed=5))[1]


def one_step(cell, params, state):
    prepared = cell.prepare(params, inputs(1, 1, seed=6))[:, 0]
    return cell.step(cell.ready(params), prepared, state)


def close(found, expected):
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-3)
