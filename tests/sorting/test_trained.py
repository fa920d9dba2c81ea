"""The estimator on trained networks whose LLCs slow samplers have given."""

from pathlib import Path

import numpy as np
import torch

from devsort.execution import one_core
from devsort.llc import estimate, settle
from devsort.sampling.config import SamplerConfig
from devsort.sorting.config import Config
from devsort.sorting.model import forward
from devsort.sorting.run import Run
from devsort.sorting.samplers import SortSampler
from devsort.sorting.trained import EARLY, HMC, Posterior, known, trained_cases, weights
from devsort.validation.validate import check

KNOWN = {point.name: (point, row) for point, row in known()}
END = "baseline-6000-full-relative"


def sampler(**changes) -> SortSampler:
    config = Config()
    llc = config.llc.model_copy(update={"sampler": SamplerConfig(**changes), "parts": ()})
    return SortSampler(Run(Path("trained"), config.model_copy(update={"llc": llc})))


def sampled(point, **changes):
    ours = sampler(**changes)
    with one_core():
        at = {point.step: ours.checkpoint(weights(point.run, point.step))}
        return ours.sample(at, point.restriction, lambda _: None)[point.step]


def test_the_references_are_tight_and_their_chains_meet():
    assert len(KNOWN) >= 8
    for point, row in KNOWN.values():
        early = point.step < EARLY
        assert 0 < row["se"] < (0.06 if early else 0.01) * abs(row["llc"]), point.name
        assert row["rhat"] < (1.03 if early else 1.02), point.name


def test_two_methods_give_the_same_reference():
    """Langevin dynamics on minibatches, extrapolated, and Hamiltonian Monte Carlo on all lists."""
    exact = list(known(HMC))
    assert {point.run for point, _ in exact} == {"baseline", "no-decay"}
    for point, row in exact:
        _, other = KNOWN[point.name]
        assert row["rhat"] < 1.01 and row["se"] < 0.005 * row["llc"], point.name
        off = abs(row["llc"] - other["llc"])
        assert off < 2 * np.hypot(row["se"], other["se"]), point.name


def test_a_posterior_has_the_gradient_of_the_readable_model():
    point, _ = KNOWN[END]
    posterior = Posterior(point, weights(point.run, point.step), Config())
    v = (posterior.target.star + 0.05 * torch.randn(2, len(posterior.target.star))).double()
    v.requires_grad_()
    few = posterior.data[slice(0, 4)]

    def loss(one):
        params = posterior.layout.views(one * posterior.scale.double())
        logits = forward(params, few.tokens[:, :-1])[:, -few.targets.shape[1] :]
        return torch.nn.functional.cross_entropy(logits.flatten(0, 1), few.targets.flatten())

    expected = [torch.autograd.grad(loss(one), one)[0] for one in v]
    rows = np.broadcast_to(np.arange(4), (2, 4))
    _, found = posterior.at(v.detach().float(), rows)
    torch.testing.assert_close(found.double(), torch.stack(expected), rtol=2e-3, atol=1e-6)


def test_the_shipped_estimator_agrees():
    """`devsort validate --trained` does all of them."""
    (case,) = [case for case in trained_cases() if case.name == END]
    row = check(case)
    assert row["ok"], row


def test_a_chain_that_is_stopped_too_early_is_flagged_and_one_that_goes_on_is_right(monkeypatch):
    point, row = KNOWN[END]
    early = {"num_burnin_steps": 0, "num_draws": 40, "num_chains": 8}
    with monkeypatch.context() as patched:
        patched.setattr(settle, "ROUNDS", 0)
        first = estimate(sampled(point, **early))
    assert "not_converged" in first.flags and first.llc < 0.9 * row["llc"]
    settled = sampled(point, **early)
    found = estimate(settled)
    assert settled.config.num_burnin_steps >= 40 and "not_converged" not in found.flags
    assert abs(found.llc - row["llc"]) < 4 * np.hypot(found.se, row["se"])
