"""Any loss as an objective.

Values and gradients lane by lane, masks, minibatches, and what is refused.
"""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from folders import told

from devsort.rng import stream
from devsort.sampling import LossObjective, minibatches, module_loss, sample
from devsort.sampling.config import SamplerConfig

PARAMS = {"a": torch.tensor([0.5, -1.0]), "s": torch.tensor(2.0)}
DATA = {"x": torch.arange(10.0).view(5, 2) / 10, "y": torch.tensor([1.0, 0.0, -1.0, 2.0, 0.5])}
SHORT = SamplerConfig(
    geometry="absolute", num_chains=2, num_draws=3, num_burnin_steps=1, batch_size=2, n_beta=10
)


def loss(params, batch):
    return ((batch["x"] @ params["a"]).tanh() * params["s"] - batch["y"]).square().mean()


def each(params, batch):
    return ((batch["x"] @ params["a"]).tanh() * params["s"] - batch["y"]).square()


FORMS = {  # the same loss in the forms that people have
    "each example": each,
    "each token": lambda p, b: each(p, b)[:, None].expand(-1, 3),
    "tokens in a row": lambda p, b: each(p, b).repeat_interleave(3),
    "one number of one entry": lambda p, b: loss(p, b)[None],
    "a tuple": lambda p, b: (loss(p, b), {"accuracy": 1.0}),
    "a dict": lambda p, b: {"loss": loss(p, b), "logits": b["x"]},
    "an object": lambda p, b: SimpleNamespace(loss=loss(p, b), logits=b["x"]),
}


@pytest.mark.parametrize("form", FORMS)
def test_all_forms_of_a_loss_give_the_same_draws(form):
    expected = sample(loss, PARAMS, DATA, SHORT)
    found = sample(FORMS[form], PARAMS, DATA, SHORT)
    for name in ("loss", "init_loss", "force", "distance"):
        np.testing.assert_allclose(getattr(found, name), getattr(expected, name), rtol=1e-5)


@pytest.mark.parametrize("form", ["each example", "each token", "tokens in a row"])
def test_the_loss_of_the_checkpoint_is_computed_once_for_each_example(form):
    seen = []

    def counted(params, batch):
        seen.append(len(batch["y"]))
        return FORMS[form](params, batch)

    sample(counted, PARAMS, DATA, SHORT)
    tried = len(seen)
    seen.clear()
    sample(counted, PARAMS, DATA, SHORT.model_copy(update={"num_draws": 13}))
    assert len(seen) == tried + 10  # a call a step, which vmap makes for all chains


def test_an_example_whose_loss_depends_on_the_others_is_compared_on_its_own_minibatch():
    def centred(params, batch):
        found = each(params, batch)
        return found - found.mean().detach() + found.max()

    trace = sample(centred, PARAMS, DATA, SHORT)
    index = minibatches(SHORT.seed, range(2), SHORT.num_steps, 2, 5)
    for c, step in ((0, 1), (1, 3)):
        batch = {name: t[index[c, step]] for name, t in DATA.items()}
        expected = centred(PARAMS, batch).mean()
        assert trace.init_loss[c, step - 1] == pytest.approx(float(expected), rel=1e-5)


@pytest.mark.parametrize(
    "rows",
    [[0, 3], slice(0, 5, 3), range(0, 4, 3), torch.tensor([True, False, False, True, False])],
)
def test_a_part_of_the_data_is_followed_at_the_same_draws(rows):
    trace = sample(each, PARAMS, DATA, SHORT, parts={"ends": rows})
    index = minibatches(SHORT.seed, range(2), SHORT.num_steps, 2, 5)[:, SHORT.num_burnin_steps :]
    inside = torch.isin(index, torch.tensor([0, 3]))
    assert (np.isnan(trace.parts["ends"]) == ~inside.any(2).numpy()).all()
    whole = inside.all(2).numpy()
    np.testing.assert_allclose(trace.parts["ends"][whole], trace.rise[whole], atol=1e-6)
    assert sample(each, PARAMS, DATA, SHORT).loss.tolist() == trace.loss.tolist()


def test_lanes_of_several_checkpoints_are_those_of_each():
    index = minibatches(3, range(2), 4, 2, 5)
    other = {name: value + 0.3 for name, value in PARAMS.items()}
    mask = {"a": torch.tensor([False, True]), "s": None}
    both = LossObjective(each, [PARAMS, other], DATA, index, mask, {"first": torch.arange(5) < 3})
    w = both.center + 0.1
    value, init, grad, parts = both(w, 2)
    for k, params in enumerate((PARAMS, other)):
        own = LossObjective(each, params, DATA, index, mask, {"first": torch.arange(5) < 3})
        lanes = slice(2 * k, 2 * k + 2)
        for found, expected in zip((value, init, grad), own(w[lanes], 2)[:3], strict=True):
            torch.testing.assert_close(found[lanes], expected)
        expected = own(w[lanes], 2)[3]["first"]
        torch.testing.assert_close(parts["first"][lanes], expected, equal_nan=True)


def test_integers_among_the_parameters_are_handed_to_the_loss_as_they_are():
    def of(params, batch):
        return each({"a": params["a"][params["order"]], "s": params["s"]}, batch)

    trace = sample(of, {**PARAMS, "order": torch.tensor([0, 1])}, DATA, SHORT)
    assert trace.dimension == 3
    assert (trace.loss == sample(each, PARAMS, DATA, SHORT).loss).all()


def test_value_and_gradient_of_each_lane_are_those_of_a_loop():
    index = torch.tensor([[[0, 1], [2, 2]], [[3, 4], [1, 0]], [[4, 4], [0, 3]]])  # (C, T, B)
    objective = LossObjective(loss, PARAMS, DATA, index)
    w = torch.randn(3, 3, generator=torch.Generator().manual_seed(0))
    for step in range(2):
        value, init, grad, parts = objective(w, step)
        assert parts == {}
        for c in range(3):
            batch = {name: t[index[c, step]] for name, t in DATA.items()}
            p = {"a": w[c, :2].clone().requires_grad_(), "s": w[c, 2].clone().requires_grad_()}
            expected = loss(p, batch)
            ga, gs = torch.autograd.grad(expected, [p["a"], p["s"]])
            torch.testing.assert_close(value[c], expected.detach())
            torch.testing.assert_close(init[c], loss(PARAMS, batch))
            torch.testing.assert_close(grad[c], torch.cat([ga, gs[None]]))


def test_gradients_are_taken_where_a_caller_has_switched_them_off():
    with torch.no_grad():
        trace = sample(loss, PARAMS, DATA, SHORT)
    assert (trace.force > 0).all()


def test_a_masked_gradient_is_the_matching_part():
    mask = {"a": torch.tensor([False, True]), "s": None}
    index = torch.tensor([[[0, 1]]])
    whole = LossObjective(loss, PARAMS, DATA, index)
    part = LossObjective(loss, PARAMS, DATA, index, mask)
    assert torch.equal(part.center, whole.center[:, 1:])
    assert torch.equal(part(part.center, 0)[2], whole(whole.center, 0)[2][:, 1:])


def test_minibatches_are_named_by_seed_chain_and_step():
    rows = minibatches(3, range(2), 50, 4, 9)
    assert rows.shape == (2, 50, 4) and rows.dtype == torch.int64
    assert rows.unique().tolist() == list(range(9))
    assert not torch.equal(rows[0], rows[1])
    # neither on other chains nor on length
    assert torch.equal(minibatches(3, range(1, 2), 20, 4, 9)[0], rows[1, :20])
    assert not torch.equal(minibatches(4, range(1), 50, 4, 9)[0], rows[0])


def test_rows_are_drawn_evenly():
    rows = minibatches(0, range(20), 500, 10, 8)
    share = torch.bincount(rows.flatten(), minlength=8) / rows.numel()
    assert (share - 1 / 8).abs().max() < 5 * (1 / 8 * 7 / 8 / rows.numel()) ** 0.5


@pytest.mark.parametrize(
    "wrap", [lambda d: (d["x"], d["y"]), lambda d: [d["x"], (d["y"],)], lambda d: {"pair": d}]
)
def test_data_may_be_nested(wrap):
    def of(params, batch):
        leaves = torch.utils._pytree.tree_leaves(batch)
        return loss(params, {"x": leaves[0], "y": leaves[1]})

    nested, plain = sample(of, PARAMS, wrap(DATA), SHORT), sample(loss, PARAMS, DATA, SHORT)
    assert (nested.loss == plain.loss).all()


def test_a_module_is_sampled_and_left_as_it_was():
    module = torch.nn.Sequential(torch.nn.utils.skip_init(torch.nn.Linear, 2, 3), torch.nn.Tanh())
    rng = stream(0, "test")
    with torch.no_grad():
        for p in module.parameters():
            p.copy_(torch.from_numpy(rng.normal(size=p.shape)))
    before = {name: p.clone() for name, p in module.named_parameters()}

    def of(model, b):
        return (model(b["x"]).sum(1) - b["y"]).square().mean()

    functional, params = module_loss(module, of)
    assert list(params) == ["0.weight", "0.bias"]
    assert not any(p.requires_grad for p in params.values())
    torch.testing.assert_close(functional(params, DATA), of(module, DATA))
    trace = sample(functional, params, DATA, SHORT)
    assert trace.dimension == 9 and (trace.distance[:, -1] > 0).all()
    for name, p in module.named_parameters():
        assert torch.equal(p, before[name]) and p.grad is None


X = torch.zeros(5, 2)
REFUSED = {
    "unknown name": (
        lambda: sample(loss, PARAMS, DATA, SHORT, mask={"z": None, "q": None}),
        "mask names q, z, which the model does not have; use ['a', 's']",
    ),
    "wrong shape": (
        lambda: sample(loss, PARAMS, DATA, SHORT, mask={"a": torch.ones(3, dtype=torch.bool)}),
        "mask of a has shape (3,), expected (2,); give a mask with the shape of the parameter",
    ),
    "nothing free": (
        lambda: sample(loss, PARAMS, DATA, SHORT, mask={"a": torch.zeros(2, dtype=torch.bool)}),
        "the mask leaves no parameter free; free at least one entry",
    ),
    "another shape": (
        lambda: sample(lambda p, b: p["s"].expand(5), PARAMS, DATA, SHORT),
        "the loss of 2 examples has shape (5,); return the loss of each example, or their mean",
    ),
    "a vector without data": (
        lambda: sample(lambda p: p["a"] * p["s"], PARAMS, config=SHORT),
        "the loss of one lane has shape (2,), expected a scalar; return its mean",
    ),
    "a sum": (
        lambda: sample(lambda p, b: 2 * loss(p, b) * len(b["x"]), PARAMS, DATA, SHORT),
        "the loss is a sum over the batch: twice the examples give twice the loss; "
        "return the mean, or the loss of each example",
    ),
    "a number": (
        lambda: sample(lambda p, b: float(loss(p, b)), PARAMS, DATA, SHORT),
        "the loss returns a float, expected a tensor; "
        "return the loss of each example, or their mean",
    ),
    "an output without a loss": (
        lambda: sample(lambda p, b: {"loss": None, "logits": p["a"]}, PARAMS, DATA, SHORT),
        "the loss returns None; return the loss; a Hugging Face model needs `labels`",
    ),
    "an error of the user's": (
        lambda: sample(lambda p, b: loss(p, b) + b["z"], PARAMS, DATA, SHORT),
        "the loss fails (KeyError: 'z'); "
        "call it yourself on the parameters and a few rows of the data",
    ),
    "complex": (
        lambda: sample(loss, {**PARAMS, "c": torch.zeros(1, dtype=torch.complex64)}, DATA, SHORT),
        "c is complex, and only real numbers can be sampled; convert it with `torch.view_as_real`",
    ),
    "no weights": (
        lambda: sample(loss, {"n": torch.zeros(2, dtype=torch.int64)}, DATA, SHORT),
        "params contains no floating-point tensor; give the weights, name → tensor",
    ),
    "a part of a mean": (
        lambda: sample(loss, PARAMS, DATA, SHORT, parts={"odd": [1, 3]}),
        "part 'odd' of the data needs more than a mean loss; "
        "return the loss of each example, such as with reduction='none'",
    ),
    "a row too many": (
        lambda: sample(each, PARAMS, DATA, SHORT, parts={"odd": [1, 5]}),
        "part 'odd' names row 5 of 5; count rows from 0",
    ),
    "an empty part": (
        lambda: sample(each, PARAMS, DATA, SHORT, parts={"none": []}),
        "part 'none' of the data is empty; choose at least one row",
    ),
    "parts without names": (
        lambda: sample(each, PARAMS, DATA, SHORT, parts=[0, 3]),
        "parts are given as a list; give name → rows, as in {'hard': [3, 17]}",
    ),
    "shares in place of rows": (
        lambda: sample(each, PARAMS, DATA, SHORT, parts={"half": [0.5]}),
        "part 'half' of the data is no choice of rows; "
        "give row numbers, a slice, or a bool mask of the rows",
    ),
    "a name in place of rows": (
        lambda: sample(each, PARAMS, DATA, SHORT, parts={"half": "first"}),
        "part 'half' of the data is no choice of rows; "
        "give row numbers, a slice, or a bool mask of the rows",
    ),
    "a row before the first": (
        lambda: sample(each, PARAMS, DATA, SHORT, parts={"last": [2, -1]}),
        "part 'last' names row -1 of 5; count rows from 0",
    ),
    "not finite": (
        lambda: sample(lambda p: p["s"].log(), {"s": torch.tensor(-1.0)}, config=SHORT),
        "the loss or its gradient at the starting point is not finite; check params and data",
    ),
    "infinite slope": (
        lambda: sample(lambda p: p["s"].sqrt(), {"s": torch.tensor(0.0)}, config=SHORT),
        "the loss or its gradient at the starting point is not finite; check params and data",
    ),
    "ragged data": (
        lambda: sample(loss, PARAMS, {"x": X, "y": torch.zeros(4)}, SHORT),
        "data contains tensors with [4, 5] rows; "
        "give tensors whose first axes have the same length",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_refused_is_told_in_one_line(case):
    call, message = REFUSED[case]
    assert told(call) == message
