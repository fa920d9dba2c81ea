"""The entry points for any loss: draws as they are without, components, parts, and refusals."""

import numpy as np
import pytest
import torch

import devsort
from devsort.errors import UserError
from devsort.rng import name_key
from devsort.sampling import LossObjective, SamplerConfig, run_chains, sample
from devsort.sampling.api import in_geometry, minibatches_of
from devsort.susceptibility import api

CONFIG = SamplerConfig(
    n_beta=30, num_chains=3, num_draws=24, num_burnin_steps=5, batch_size=8, localization=2
)
X = torch.linspace(-1, 1, 40)[:, None].repeat(1, 3) ** torch.arange(1, 4)
DATA = (X, X.sum(1) + 0.3 * torch.cos(9 * X[:, 0]))
START = {"a": torch.tensor([0.9, 1.1, 1.0]), "b": torch.tensor([0.1])}


def loss(params, batch):
    return (batch[0] @ params["a"] + params["b"] - batch[1]).square()


def by_hand(mask, rows, key, config=CONFIG, every=1):
    """φ (C, T, 1) and ℓ − L (C, T, rows) of the draws themselves."""
    seen = []

    class Spy:
        def __init__(self):
            self.every = every

        def __call__(self, w):
            seen.append(w.clone())

    objective = LossObjective(loss, START, DATA, minibatches_of(config, DATA), mask)
    moved = in_geometry(objective, config)
    streams = [(name_key(key), c) for c in range(config.num_chains)]
    run_chains(moved, config, streams, watch=Spy())
    scale = moved.scale[0, 0]
    names = sorted(mask or START)
    losses = []
    for v in seen:
        for w in v * scale:
            free = dict(zip(names, w.split([len(START[n]) for n in names]), strict=True))
            losses.append(loss({**START, **free}, tuple(t[rows] for t in DATA)))
    found = torch.stack(losses).double().view(len(seen), config.num_chains, -1).swapaxes(0, 1)
    mean = found.mean(2, keepdim=True)
    return mean.numpy(), (found - mean).numpy()


def covariances(phi, away):
    """−Cov by plain sums, with the product of the means of different chains."""
    chains = range(len(phi))
    pairs = [(c, d) for c in chains for d in chains if c != d]
    apart = np.mean([phi[c].mean(0) * away[d].mean(0) for c, d in pairs], axis=0)
    return apart - (phi * away).mean((0, 1))


@pytest.mark.parametrize(("name", "mask"), [("full", None), ("slope", {"a": None})])
@pytest.mark.parametrize("every", [1, 3])
def test_the_numbers_are_those_of_the_draws(name, mask, every):
    found = api.susceptibilities(
        loss, START, DATA, CONFIG, masks={name: mask}, probe=[3, 17, 30], every=every
    )
    truth = covariances(*by_hand(mask, [3, 17, 30], name, every=every))
    assert np.allclose(found.table.chi[0], truth, rtol=1e-3, atol=1e-7)
    assert found.table.row.values.tolist() == [3, 17, 30]


def test_draws_are_those_of_sample():
    found = api.susceptibilities(loss, START, DATA, CONFIG, masks={"slope": {"a": None}})
    plain = sample(loss, START, DATA, CONFIG, mask={"a": None}, key=(name_key("slope"),))
    assert np.array_equal(found.traces["slope"].loss, plain.loss)
    assert devsort.estimate(found.traces["slope"]).llc == devsort.estimate(plain).llc


def test_parts_are_means_of_their_rows():
    rows = api.susceptibilities(loss, START, DATA, CONFIG, probe=range(8)).table.chi[0]
    parts = {"low": [0, 1, 2], "high": torch.arange(40) >= 4}
    found = api.susceptibilities(loss, START, DATA, CONFIG, probe=range(8), parts=parts).table
    assert found.part.values.tolist() == ["low", "high"]
    assert np.allclose(found.chi[0], [rows[:3].mean(), rows[4:].mean()], atol=1e-9)
    assert float(rows.mean()) == pytest.approx(0, abs=1e-9)  # Σ (ℓ_x − L) = 0


def test_the_whole_data_is_probed_up_to_a_number_of_rows(monkeypatch):
    assert api.susceptibilities(loss, START, DATA, CONFIG).table.sizes["row"] == 40
    monkeypatch.setattr(api, "PROBE", 10)
    rows = api.susceptibilities(loss, START, DATA, CONFIG).table.row.values
    assert rows.tolist() == list(range(0, 40, 4))


def test_components_are_named_by_patterns_and_devinterps_mean_is_of_the_whole_model():
    given = {"components": {"slope": ["a"], "offset": "b"}, "probe": [0, 9]}
    own = devsort.susceptibilities(loss, START, DATA, CONFIG, **given)
    joint = devsort.susceptibilities(loss, START, DATA, CONFIG, full=True, **given)
    assert own.table.component.values.tolist() == ["slope", "offset"]
    assert set(own.traces) == {"slope", "offset"} and set(joint.traces) == {*own.traces, "full"}
    whole = by_hand(None, [0, 9], "full")[1]
    phi, away = by_hand({"b": None}, [0, 9], "offset")
    start = loss(START, tuple(t[[0, 9]] for t in DATA)).double()
    rise = phi.mean() - float(start.mean())
    shift = rise * (away.mean((0, 1)) - whole.mean((0, 1)))
    assert np.allclose(joint.table.chi[1] - own.table.chi[1], -shift, rtol=1e-2, atol=1e-7)


def test_influences_between_rows_and_with_an_observable():
    found = devsort.influences(
        loss, START, DATA, CONFIG, probe=[2, 5], observables={"b": lambda p: p["b"]}
    ).table
    assert found.observed.values.tolist() == ["2", "5", "b"]
    kernel = found.covariance.values[:2]
    assert np.allclose(kernel, kernel.T)
    spread = np.sqrt(np.diag(kernel))
    assert np.allclose(found.correlation.values[:2], kernel / np.outer(spread, spread))
    # ∂ℓ/∂b = 2 r, and where only b moves ℓ = (r + b − b*)² exactly
    only = devsort.influences(
        loss, START, DATA, CONFIG, component="b", probe=[2], observables={"b": lambda p: p["b"]}
    ).table
    r = float(DATA[0][2] @ START["a"] + START["b"] - DATA[1][2])
    assert float(only.covariance.sel(observed="b")[0]) / r > 0


def mean_loss(params, batch):
    return loss(params, batch).mean()


def mixed(params, batch):
    found = loss(params, batch)
    return found - found.mean() + found.mean().detach() + found.sum()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"loss": mean_loss},
            "a response to an example needs more than a mean loss; "
            "return the loss of each example, such as with reduction='none'",
        ),
        (
            {"loss": mixed},
            "the loss of an example depends on the others in its batch; "
            "turn off what mixes examples, such as batch statistics",
        ),
        ({"probe": [40]}, "probe names rows beyond the 40 of the data; count from 0"),
        (
            {"parts": {"p": [3]}, "probe": [1, 2]},
            "no probed row lies in part 'p'; give `probe` more rows",
        ),
        (
            {"every": 4},
            "6 draws are too few for a covariance with its error; take at least 8 draws a chain",
        ),
    ],
)
def test_what_cannot_be_answered_is_told(change, message):
    given = {"loss": loss, "params": START, "data": DATA, "config": CONFIG} | change
    with pytest.raises(UserError) as error:
        devsort.susceptibilities(**given)
    assert str(error.value) == message


def test_an_observable_that_gives_no_number_is_named():
    with pytest.raises(UserError) as error:
        devsort.influences(loss, START, DATA, CONFIG, observables={"a": lambda p: p["a"]})
    assert str(error.value).startswith("observable 'a' fails (RuntimeError: ")


def test_a_chain_that_died_leaves_no_number():
    hot = CONFIG.model_copy(update={"lr": 1e6, "sampling_method": "sgld"})
    found = devsort.susceptibilities(loss, START, DATA, hot, probe=[1, 2]).table
    assert np.isnan(found.chi).all() and np.isnan(found.se).all()


def test_the_state_that_is_seen_is_that_of_the_trace():
    """With one row of data every minibatch is all of it, so φ is the trace's loss at that draw."""
    whole = tuple(t[None] for t in DATA)
    config = CONFIG.model_copy(update={"batch_size": 1, "num_steps_bw_draws": 2})
    setting = api.Setting(loss, START, whole, config, every=3)
    watcher, trace = api.watched(setting, None, "full", api.by_component)
    seen = watcher.moments[0].means(1)[1, 0].reshape(-1)
    assert np.allclose(seen, trace.rise[:, ::3].mean(1), rtol=1e-4)
