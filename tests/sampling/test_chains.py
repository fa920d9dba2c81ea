"""The chain against a scalar loop, and the invariants that hold whatever the loss."""

import math

import numpy as np
import pytest
import torch

from devsort.llc.store import BURNIN, DRAWN
from devsort.rng import torch_stream
from devsort.sampling import LossObjective, minibatches, run_chains, sample
from devsort.sampling.config import SamplerConfig
from devsort.sampling.methods import Sgld, force_of
from devsort.sampling.noise import BLOCK, STEPS

ODD = SamplerConfig(
    geometry="absolute", sampling_method="sgld",
    lr=3e-3, n_beta=17, localization=4, prior=2.5, noise_level=0.6, num_chains=3, num_draws=5,
    num_burnin_steps=4, num_steps_bw_draws=3, batch_size=2, seed=11,
)  # fmt: skip
LOOPED = ("loss", "init_loss", "work", "force", "distance")
ROWS = torch.tensor([[0.4, -1.0], [1.5, 0.3], [-0.7, 0.8], [0.2, 0.1]])
STAR = {"w": torch.tensor([0.3, -0.8])}


def bowl(params, rows):
    """½ Σ (w − row)⁴, not quadratic and with real minibatch noise."""
    return ((params["w"] - rows) ** 4).sum(-1).mean() / 2


def double(params):
    return {name: value.double() for name, value in params.items()}


def test_one_step_is_the_rule_of_the_docstring():
    generator = torch.Generator().manual_seed(0)
    w, star, grad, noise = (
        torch.randn(2, 3, generator=generator, dtype=torch.float64) for _ in range(4)
    )
    before = w.clone()
    force, moved = force_of(w, star, grad.clone(), ODD)
    Sgld(ODD, w).step(w, force, noise)
    for g in range(2):
        for i in range(3):
            u = float(before[g, i] - star[g, i])
            G = 17 * float(grad[g, i]) + 4 * u + 2.5 * float(before[g, i])
            expected = (
                float(before[g, i]) - 3e-3 / 2 * G + math.sqrt(3e-3) * 0.6 * float(noise[g, i])
            )
            assert float(w[g, i]) == pytest.approx(expected, abs=1e-14)
            assert (float(force[g, i]), float(moved[g, i])) == pytest.approx((G, u), abs=1e-13)


def test_the_trace_is_that_of_a_scalar_loop():
    trace = sample(bowl, double(STAR), ROWS.double(), ODD)
    rows = minibatches(11, range(3), 4 + 5 * 3, 2, 4)
    assert (trace.dimension, trace.parts, trace.config) == (2, {}, ODD)
    assert (trace.loss.shape, trace.burnin_loss.shape) == ((3, 5), (3, 4))
    for chain in range(3):
        expected = loop_chain(torch_stream(11, "noise", chain), rows[chain].tolist())
        found = np.stack([getattr(trace, name)[chain] for name in LOOPED], 1)
        for row, values in zip(expected[4::3], found.tolist(), strict=True):
            assert values == pytest.approx(row, rel=1e-10, abs=1e-12)
        burnin = np.stack([getattr(trace, name)[chain] for name in BURNIN], 1)
        np.testing.assert_allclose(burnin, [row[:2] for row in expected[:4]])


def loop_chain(generator, rows):
    """[loss, loss at w*, (w − w*)·G, |G|², |w − w*|²] of each step, before its update.

    In Python floats.
    """
    table, star = ROWS.double().tolist(), STAR["w"].double().tolist()
    block = torch.empty(min(STEPS, BLOCK // 2), 2, dtype=torch.float64)
    noise = block.normal_(generator=generator).tolist()
    w, steps = list(star), []
    for step, batch in enumerate(rows):
        u = [a - b for a, b in zip(w, star, strict=True)]
        slope = [sum(2 * (w[i] - table[r][i]) ** 3 for r in batch) / len(batch) for i in range(2)]
        G = [17 * slope[i] + 4 * u[i] + 2.5 * w[i] for i in range(2)]
        losses = [
            sum((p[i] - table[r][i]) ** 4 / 2 for r in batch for i in range(2)) / len(batch)
            for p in (w, star)
        ]
        work = sum(a * b for a, b in zip(u, G, strict=True))
        steps.append([*losses, work, sum(g * g for g in G), sum(a * a for a in u)])
        w = [w[i] - 3e-3 / 2 * G[i] + math.sqrt(3e-3) * 0.6 * noise[step][i] for i in range(2)]
    return steps


def test_without_noise_the_chain_is_sgd_with_step_half_lr_n_beta():
    config = ODD.model_copy(update={"noise_level": 0.0, "localization": 0.0, "prior": 0.0})
    trace = sample(bowl, double(STAR), ROWS.double(), config)
    rows = minibatches(11, range(3), 19, 2, 4)
    for chain in range(3):
        w = STAR["w"].double()
        losses = []
        for step in range(19):
            w.requires_grad_()
            loss = bowl({"w": w}, ROWS.double()[rows[chain, step]])
            losses.append(loss.item())
            w = w.detach() - 3e-3 * 17 / 2 * torch.autograd.grad(loss, w)[0]
        np.testing.assert_allclose(trace.burnin_loss[chain], losses[:4], rtol=1e-12)
        np.testing.assert_allclose(trace.loss[chain], losses[4::3], rtol=1e-12)


@pytest.mark.parametrize("c", [4.0, 0.125])
def test_a_rescaled_loss_at_the_inverse_temperature_gives_the_same_chain_bitwise(c):
    plain = sample(bowl, STAR, ROWS, ODD)
    colder = ODD.model_copy(update={"n_beta": 17 / c})
    scaled = sample(lambda p, r: c * bowl(p, r), STAR, ROWS, colder)
    assert (scaled.loss == c * plain.loss).all() and (scaled.init_loss == c * plain.init_loss).all()
    for name in ("work", "force", "distance"):
        assert (getattr(scaled, name) == getattr(plain, name)).all()


def assert_same(a, b):
    for name in (*DRAWN, *BURNIN):
        assert (getattr(a, name) == getattr(b, name)).all(), name


def two_parts(params, rows):
    return (
        bowl({"w": params["a"]}, rows)
        + (params["b"] ** 2 * rows.mean(0)[0]).sum()
        + params["b"].sum() ** 2
    )


PARTS = {"a": torch.tensor([0.2, 0.5]), "b": torch.tensor([[1.0, -1.0], [0.3, 2.0]])}


def test_the_order_of_parameters_and_of_data_changes_nothing_bitwise():
    def of_dict(params, batch):
        return two_parts(params, batch["x"] + batch["y"])

    data = {"x": ROWS, "y": ROWS.flip(0)}
    turned, turned_data = (dict(reversed(d.items())) for d in (PARTS, data))
    assert_same(sample(of_dict, turned, turned_data, ODD), sample(of_dict, PARTS, data, ODD))


@pytest.mark.parametrize(
    "full", [{"a": None, "b": None}, {n: torch.ones(p.shape).bool() for n, p in PARTS.items()}]
)
def test_a_full_mask_is_no_mask_bitwise(full):
    assert_same(sample(two_parts, PARTS, ROWS, ODD, mask=full), sample(two_parts, PARTS, ROWS, ODD))


@pytest.mark.parametrize(
    ("mask", "dimension", "watched"),
    [
        ({"a": None}, 2, lambda p: p["b"][0, 1]),
        ({"b": torch.tensor([[True, False], [True, True]])}, 3, lambda p: p["b"][0, 1]),
        ({"b": torch.tensor([[True, False], [True, True]])}, 3, lambda p: p["a"][1]),
    ],
)
def test_frozen_entries_stay_bitwise_unchanged(mask, dimension, watched):
    # the loss tells the frozen entry
    # it pulls on every entry with a gradient that is rounded away from its value
    def loss(params, rows):
        return watched(params) + 1e-30 * two_parts(params, rows)

    config = ODD.model_copy(update={"n_beta": 1e9})
    before = {name: p.clone() for name, p in PARTS.items()}
    trace = sample(loss, PARTS, ROWS, config, mask=mask)
    assert trace.dimension == dimension
    assert (trace.loss == float(watched(PARTS))).all() and (trace.distance[:, 1:] > 0).all()
    assert all(torch.equal(PARTS[name], p) for name, p in before.items())


def test_a_mask_samples_what_the_loss_of_the_rest_frozen_would():
    mask = {"a": None}
    alone = lambda p, r: two_parts({"a": p["a"], "b": PARTS["b"]}, r)  # noqa: E731
    frozen = sample(alone, {"a": PARTS["a"]}, ROWS, ODD)
    assert_same(sample(two_parts, PARTS, ROWS, ODD, mask=mask), frozen)


def objective_of(chains: list[int], config: SamplerConfig) -> LossObjective:
    rows = torch.cat(
        [minibatches(config.seed, range(c, c + 1), config.num_steps, 2, 4) for c in chains]
    )
    return LossObjective(two_parts, PARTS, ROWS, rows)


def test_lanes_do_not_depend_on_their_grouping():
    # over more than one block of noise
    config = ODD.model_copy(update={"noise_level": 1.0, "num_draws": 90})
    whole = run_chains(objective_of([0, 1, 2, 3], config), config, [(7, c) for c in range(4)])
    again = run_chains(objective_of([0, 1, 2, 3], config), config, [(7, c) for c in range(4)])
    assert_same(whole, again)
    for group in ([2], [3, 0], [3, 2, 1, 0], [1, 2, 0]):
        part = run_chains(objective_of(group, config), config, [(7, c) for c in group])
        for name in DRAWN:
            np.testing.assert_allclose(
                getattr(part, name), getattr(whole, name)[group], rtol=2e-4, atol=2e-5
            )


def test_the_key_names_the_noise_and_not_the_minibatches():
    quiet = ODD.model_copy(update={"noise_level": 0.0})
    a, b = sample(bowl, STAR, ROWS, quiet, key=(1,)), sample(bowl, STAR, ROWS, quiet, key=(2,))
    assert_same(a, b)
    a, b = sample(bowl, STAR, ROWS, ODD, key=(1,)), sample(bowl, STAR, ROWS, ODD, key=(2,))
    assert (a.init_loss == b.init_loss).all() and (a.distance[:, 1:] != b.distance[:, 1:]).all()
    assert_same(a, sample(bowl, STAR, ROWS, ODD, key=(1,)))


def test_chains_differ_and_a_chain_does_not_depend_on_how_many_there_are():
    four = sample(bowl, STAR, ROWS, ODD.model_copy(update={"num_chains": 4}))
    three = sample(bowl, STAR, ROWS, ODD)
    assert len(np.unique(four.loss[:, -1])) == 4
    np.testing.assert_allclose(three.loss, four.loss[:3], rtol=1e-5)


def test_a_longer_run_starts_with_the_shorter_one():
    long = sample(bowl, STAR, ROWS, ODD.model_copy(update={"num_draws": 9}))
    short = sample(bowl, STAR, ROWS, ODD)
    assert (long.loss[:, :5] == short.loss).all() and (long.force[:, :5] == short.force).all()


def test_global_generators_are_neither_read_nor_moved():
    state = torch.get_rng_state()
    first = sample(bowl, STAR, ROWS, ODD)
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(99)
    assert_same(sample(bowl, STAR, ROWS, ODD), first)


def test_a_diverged_chain_stays_dead_and_the_others_live():
    # a quadratic diverges exactly when ε (nβ h + γ) ≥ 4
    for stiffness, dead in ((3.6, False), (4.4, True)):
        config = SamplerConfig(
            geometry="absolute",
            lr=1e-2,
            n_beta=stiffness / 1e-2,
            localization=0,
            num_chains=2,
            num_draws=500,
            num_burnin_steps=0,
        )
        trace = sample(lambda p: p["w"] ** 2 / 2, {"w": torch.tensor(0.0)}, config=config)
        assert trace.dead.tolist() == [dead] * 2
        if dead:
            assert not np.isfinite(trace.loss[:, -1]).any()
