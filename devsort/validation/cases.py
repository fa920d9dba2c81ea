"""The cases of `devsort validate`: settings, truth and tolerance, all fixed in advance.

A case passes if the standard error is at most `se_bound` (so that a noisy run cannot pass), the
error of the truth is at most `slack`, and the estimate is within `tolerance` = 4 se_bound + slack
of the truth. A correct sampler is off by four standard errors once in 16,000 cases, and seeds are
fixed. The bounds are about 1 % of the truth, enough to reject every mutant in
tests/validation/test_mutants.py.

Potentials with flat directions (crossings, networks) relax along them in 2/(ε γ) steps. Burn-in is
4/(ε γ), after which only e^{−4} of the initial deviation of a variance that hardly affects the loss
remains. The step is so small that a first-order formula describes its effect on the mean; the
square of that effect is part of the slack (see `quadrature`).
"""

import numpy as np
import torch

from devsort.validation import measurements, potentials
from devsort.validation.case import Case, of_potential, settings
from devsort.validation.formulas import Quadratic, regression_with_minibatches
from devsort.validation.measurements import llc
from devsort.validation.perceptron import perceptron_cases
from devsort.validation.quadrature import Truth
from devsort.validation.responses import response_cases
from devsort.validation.underdamped import underdamped_cases
from devsort.validation.units import unit_cases


def quadratics() -> list[Case]:
    """Step size on quadratics. The truth is exact for the chain at any step size."""
    lanes = {"num_chains": 4000, "num_burnin_steps": 100, "num_draws": 160, "num_steps_bw_draws": 2}
    spectrum = [0.0, 0.1, 1.0, 3.0, 10.0, 30.0]
    one = potentials.quadratic([3.0])
    return [
        of_potential(
            "small-step",
            "3/2 w², ε a = 0.15",
            one,
            settings(50, 2, 1e-3, **lanes),
            0.003,
            fast=True,
        ),
        of_potential(
            "large-step", "3/2 w², ε a = 1.5", one, settings(50, 2, 1e-2, **lanes), 0.002, fast=True
        ),
        of_potential(
            "spectrum",
            "six curvatures, one of them 0",
            potentials.quadratic(spectrum),
            settings(
                40,
                20,
                1e-3,
                num_chains=2000,
                num_burnin_steps=800,
                num_draws=100,
                num_steps_bw_draws=8,
            ),
            0.005,
        ),
    ]


def starts() -> list[Case]:
    """Burn-in and prior on quadratics. The truth is exact for the chain at any step size."""
    lanes = {"num_chains": 4000, "num_burnin_steps": 100, "num_draws": 160, "num_steps_bw_draws": 2}
    return [
        of_potential(
            "burn-in-left-in",
            "w²/2 in ten dimensions, all of the first 600 steps",
            potentials.quadratic([1.0] * 10),
            settings(100, 5, 1e-4, num_chains=2000, num_burnin_steps=0, num_draws=600),
            0.03,
            fast=True,
        ),
        of_potential(
            "burn-in-cut",
            "w²/2 in twenty dimensions, steps 1, 3, 5 and 7 of a chain that relaxes in five",
            potentials.quadratic([1.0] * 20),
            settings(
                50, 10, 6e-3, num_chains=4000, num_burnin_steps=1, num_draws=4, num_steps_bw_draws=2
            ),
            0.03,
            fast=True,
        ),
        of_potential(
            "prior",
            "two quadratics at w* = 2, prior precision 5 centred at zero",
            potentials.quadratic([1.0, 3.0], center=2.0),
            settings(50, 10, 2e-3, prior=5, **lanes),
            0.008,
            fast=True,
        ),
    ]


def minibatches() -> list[Case]:
    """Gradient noise of minibatches, additive and growing with the distance from w*."""
    noisy = settings(
        50, 2, 1e-3, num_chains=4000, num_burnin_steps=100, num_draws=300, batch_size=2
    )
    strong = settings(
        20, 5, 2e-3, num_chains=1000, num_burnin_steps=400, num_draws=800, batch_size=4
    )
    return [
        Case(
            "minibatch-noise",
            "3/2 w² + x w with x = ±1, two rows per step",
            lambda: Truth(Quadratic(np.array([3.0]), noisy, noise=0.5).expected()),
            lambda: measurements.tilted_llc(noisy),
            0.004,
            fast=True,
        ),
        Case(
            "regression",
            "torch.nn.Linear on 64 rows, four per step: noise that grows away from w*",
            lambda: Truth(regression_with_minibatches(*measurements.regression_rows(), strong)),
            lambda: measurements.regression_llc(strong),
            0.01,
        ),
    ]


def chain_statistics() -> list[Case]:
    """The quantities on which error bars and the equilibrium flag are based."""
    spread = settings(
        50, 2, 1e-3, num_chains=8000, num_burnin_steps=100, num_draws=60, num_steps_bw_draws=2
    )
    noisy = settings(
        50, 2, 1e-2, num_chains=2000, num_burnin_steps=100, num_draws=400, batch_size=2
    )
    return [
        Case(
            "standard-error",
            "scatter of one chain's mean against the exact autocorrelation of w²",
            lambda: Truth(Quadratic(np.array([3.0]), spread).standard_error()),
            lambda: measurements.scatter(potentials.quadratic([3.0]), spread),
            0.004,
            fast=True,
        ),
        Case(
            "equilibrium",
            "E[(w − w*)·G] − (ε/4) E|G|² = d with minibatch noise, ε a = 1.5",
            lambda: Truth(1.0),
            lambda: measurements.equilibrium(noisy),
            0.01,
            fast=True,
        ),
    ]


def quasi_homogeneous() -> list[Case]:
    """Powers: without localization, nβ E[L] equals λ at every nβ, up to the effect of the step."""
    steps = {
        "num_chains": 2000,
        "num_burnin_steps": 1500,
        "num_draws": 150,
        "num_steps_bw_draws": 10,
    }
    w4, w6 = potentials.powers(4), potentials.powers(6)
    both, ball = potentials.powers(2, 4), potentials.radial(3, 2)
    return [
        of_potential(
            "power-4", "w⁴, γ = 0", w4, settings(100, 0, 1e-3, **steps), 0.002, 0.001, fast=True
        ),
        of_potential("power-6", "w⁶, γ = 0", w6, settings(100, 0, 2e-3, **steps), 0.0015, 0.001),
        of_potential(
            "powers-2-4", "w1² + w2⁴, γ = 0", both, settings(100, 0, 5e-4, **steps), 0.004, 0.003
        ),
        of_potential(
            "radial-4",
            "|w|⁴ in three dimensions, γ = 0",
            ball,
            settings(100, 0, 1e-3, **steps),
            0.003,
            0.001,
        ),
        of_potential(
            "power-4-localised", "w⁴, γ = 5", w4, settings(145, 5, 1e-3, **steps), 0.0016, 0.001
        ),
        of_potential(
            "power-6-pinned",
            "w⁶, γ = 100: prior-dominated",
            w6,
            settings(145, 100, 1e-3, **steps),
            0.00005,
            0.0001,
        ),
    ]


def crossings() -> list[Case]:
    """Normal crossings at nβ = 30, far from their limits. The truth is a quadrature in 2D."""
    config = settings(
        30, 1, 5e-4, num_chains=4000, num_burnin_steps=8000, num_draws=100, num_steps_bw_draws=30
    )
    return [
        of_potential(
            f"crossing-{a}-{b}",
            f"4 w1^{2 * a} w2^{2 * b}, γ = 1",
            potentials.crossing(a, b),
            config,
            bound,
            0.0015,
        )
        for a, b, bound in [(1, 1, 0.002), (1, 2, 0.002), (2, 2, 0.0015)]
    ]


def networks() -> list[Case]:
    """Reduced-rank regression and deep linear networks. The truth integrates out the last layer."""
    config = settings(
        30, 1, 5e-4, num_chains=1000, num_burnin_steps=8000, num_draws=100, num_steps_bw_draws=30
    )
    rrr, deep = potentials.reduced_rank, potentials.linear_network
    return [
        of_potential("rank-regression-5-3-5", "rank 0, γ = 1", rrr(5, 3, 5), config, 0.02, 0.025),
        of_potential(
            "rank-regression-1-2-5", "rank 0, M + H < N, γ = 1", rrr(1, 2, 5), config, 0.006, 0.01
        ),
        of_potential(
            "rank-regression-2-2-2", "rank 1, γ = 1", deep((2, 2, 2), 1), config, 0.015, 0.01
        ),
        of_potential(
            "deep-linear-2-2-2-2", "rank 0, γ = 1", deep((2, 2, 2, 2), 0), config, 0.01, 0.01
        ),
        of_potential(
            "deep-linear-2-2-2-2-rank-1",
            "rank 1, γ = 1",
            deep((2, 2, 2, 2), 1),
            config,
            0.015,
            0.045,
        ),
    ]


def refinements() -> list[Case]:
    """Independent blocks: refined LLCs are those of the blocks, and they are additive."""
    parts = {
        "a": potentials.quadratic([1.0, 3.0]),
        "b": potentials.powers(4),
        "c": potentials.radial(2, 2),
    }
    whole = potentials.blocks(**parts)
    config = settings(
        100, 5, 1e-3, num_chains=2000, num_burnin_steps=600, num_draws=100, num_steps_bw_draws=6
    )
    half = Quadratic(np.array([3.0]), config)
    return [
        of_potential("blocks", "a quadratic, w⁴ and |w|⁴ together", whole, config, 0.006, 0.002),
        Case(
            "block-refined",
            "the w⁴ block, the others frozen",
            lambda: parts["b"].truth(config),
            lambda: llc(whole, config, {"b.w": None}),
            0.0025,
            0.001,
        ),
        Case(
            "entry-refined",
            "one entry of a tensor of the blocks, all else frozen",
            lambda: Truth(half.expected()),
            lambda: llc(whole, config, {"a.w": torch.tensor([False, True])}),
            0.0025,
        ),
        Case(
            "additivity",
            "sum of the refined LLCs minus the LLC of the whole",
            lambda: Truth(0.0),
            lambda: measurements.additivity_gap(whole, config),
            0.008,
        ),
    ]


def all_cases() -> list[Case]:
    """Returns all cases, the fast ones first."""
    families = (
        quadratics,
        starts,
        minibatches,
        underdamped_cases,
        chain_statistics,
        refinements,
        quasi_homogeneous,
        crossings,
        networks,
        perceptron_cases,
        unit_cases,
        response_cases,
    )
    return [case for family in families for case in family()]
