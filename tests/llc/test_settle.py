"""Chains that are drawn again: what asks for it, what is changed, and when it ends."""

from dataclasses import replace

import numpy as np
import pytest

from devsort.llc import estimate
from devsort.llc.settle import HOT, LEFT, LONG, LONGEST, cooler, remedy, until_settled
from devsort.sampling import Trace
from devsort.sampling.config import SamplerConfig

LLC, CONFIG = 100.0, SamplerConfig(num_burnin_steps=20, num_draws=120)


def trace(config: SamplerConfig = CONFIG, heat: float = 0.0, fall: float = 0.0) -> Trace:
    """White draws of nβ (L − L(w*)) about LLC, that fall by a share of it, too high by `heat`."""
    size = config.num_chains, config.num_draws
    noise = np.random.default_rng(0).standard_normal(size)
    line = fall * np.linspace(0.5, -0.5, size[1])
    none = np.empty((size[0], 0))
    return Trace(
        loss=LLC * (1 + heat + line + 0.02 * noise) / config.n_beta,
        init_loss=np.zeros(size),
        work=np.full(size, 500.0),
        force=np.ones(size),
        distance=np.ones(size),
        heating=np.full((size[0], config.num_probes), heat * LLC),
        burnin_loss=none,
        burnin_init_loss=none,
        parts={},
        dimension=500,
        config=config,
    )


def test_a_healthy_chain_stays_as_it_is():
    assert remedy(trace()) == {}
    assert estimate(trace()).llc == pytest.approx(LLC, rel=0.01)


def test_a_chain_that_still_falls_gets_its_draws_as_burnin_and_is_drawn_twice_as_long():
    assert remedy(trace(fall=0.08)) == {"num_burnin_steps": 140, "num_steps_bw_draws": 2}


def disagreeing(rhat: float, config: SamplerConfig = CONFIG) -> Trace:
    """Chains with this R-hat, which do not drift."""
    found = trace(config)
    for width in np.linspace(0, 0.1, 1001):
        apart = replace(found, loss=found.loss + width * np.array([[-1], [1], [-1], [1]]) / 10)
        if estimate(apart).rhat > rhat:
            return apart
    raise AssertionError("no chains have this R-hat")


@pytest.mark.parametrize("excess", [-0.01, 0.01])
def test_chains_that_disagree_a_little_are_drawn_twice_as_long(excess):
    found = disagreeing(LONG + excess)
    assert "not_converged" not in estimate(found).flags
    assert remedy(found) == ({"num_steps_bw_draws": 2} if excess > 0 else {})


def test_a_chain_is_made_longer_only_so_often_whatever_it_starts_with():
    for every in (1, 3):
        config = CONFIG.model_copy(update={"num_steps_bw_draws": every * LONGEST // 2})
        assert remedy(disagreeing(1.08, config), every) == {"num_steps_bw_draws": every * LONGEST}
        longest = CONFIG.model_copy(update={"num_steps_bw_draws": every * LONGEST})
        assert remedy(disagreeing(1.08, longest), every) == {}


@pytest.mark.parametrize(("share", "momentum"), [(0.9, None), (1.1, 0.5), (2, 0.3), (4, 0.0)])
def test_a_hot_chain_loses_momentum_and_sees_more(share, momentum):
    change = {} if momentum is None else {"momentum": momentum, "batch_size": 128}
    assert remedy(trace(heat=share * HOT)) == change


@pytest.mark.parametrize("share", [0.03, 0.05, 0.1])
@pytest.mark.parametrize("momentum", [0.3, 0.7, 0.95])
def test_what_is_left_of_the_heat_is_what_is_wanted(share, momentum):
    """Heat is proportional to (1 + c) / (1 − c) / B; without momentum there is no less."""

    def factor(c: float) -> float:
        return (1 + c) / (1 - c)

    c = cooler(momentum, share)
    left = share * factor(c) / factor(momentum) / 2
    assert c < momentum and (left <= LEFT or c == 0)
    less = share * factor(c + 0.051) / factor(momentum) / 2  # the next of the steps of 0.05
    assert less > LEFT


def test_heat_within_the_error_is_left_alone():
    found = trace(heat=2 * HOT)
    wide = replace(found, loss=found.loss + np.array([[-0.04], [0.04], [-0.02], [0.02]]))
    assert estimate(wide).se > estimate(wide).heat and "momentum" not in remedy(wide)


@pytest.mark.parametrize("share", [0.8, 1.2])
def test_chains_that_disagree_about_the_heat_are_drawn_again(share):
    """The mean heat is small, but most chains have met no noisy minibatch and one has met many."""
    found = trace()
    each = np.array([-1.0, -1.0, -1.0, 3.0])  # a standard error of one
    unsure = replace(found, heating=found.heating + share * HOT * LLC * each[:, None])
    change = {"momentum": 0.0, "batch_size": 2 * CONFIG.batch_size} if share > 1 else {}
    assert estimate(unsure).heat == pytest.approx(0) and remedy(unsure) == change
    wide = replace(unsure, loss=unsure.loss + np.array([[-0.12], [0.12], [-0.06], [0.06]]) / 10)
    assert "momentum" not in remedy(wide)  # chains that disagree anyway


def test_heat_is_judged_on_settled_chains_and_mended_once():
    early = trace(heat=2 * HOT, fall=0.2)
    assert remedy(early).keys() == {"num_burnin_steps", "num_steps_bw_draws"}
    cold = CONFIG.model_copy(update={"momentum": 0.0})
    assert remedy(trace(cold, heat=2 * HOT)) == {}


def test_sgld_is_left_alone():
    config = SamplerConfig(geometry="absolute", num_burnin_steps=20, num_draws=120)
    found = replace(trace(config, fall=0.5), heating=np.empty((config.num_chains, 0)))
    assert "not_converged" in estimate(found).flags and remedy(found) == {}


def test_each_lane_gets_what_it_needs_and_no_more():
    drawn = []

    def draw(config, names):
        drawn.append((dict(config), sorted(names)))
        falls = {1: 0.0, 2: 0.2 if config.num_burnin_steps < 200 else 0.0, 3: 0.5}
        return {name: trace(config, fall=falls[name]) for name in names}

    found = until_settled(draw, CONFIG, [1, 2, 3])
    changed = {
        name: (one.config.num_burnin_steps, one.config.num_steps_bw_draws)
        for name, one in found.items()
    }
    # 20 + 120 steps, then 140 + 2 · 120, then 380 + 4 · 120
    assert changed == {1: (20, 1), 2: (380, 4), 3: (380, LONGEST)}
    assert [names for _, names in drawn] == [[1, 2, 3], [2, 3], [2, 3]]
    flagged = {name for name in found if "not_converged" in estimate(found[name]).flags}
    assert flagged == {3}
