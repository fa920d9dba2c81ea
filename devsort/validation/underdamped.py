"""Known answers for BAOAB: its splitting, momentum, heat, starts and restrictions."""

import numpy as np
import torch

from devsort.validation import measurements, potentials
from devsort.validation.case import Case, of_potential, settings
from devsort.validation.formulas import UnderdampedQuadratic
from devsort.validation.measurements import llc
from devsort.validation.quadrature import Truth


def underdamped_cases() -> list[Case]:
    """On quadratics exact for the chain, at any step size and any step of it."""
    lanes = {"num_chains": 4000, "num_burnin_steps": 100, "num_draws": 160, "num_steps_bw_draws": 2}
    baoab = {"sampling_method": "baoab", **lanes}
    one, two = potentials.quadratic([3.0]), potentials.quadratic([0.5, 3.0])
    short = baoab | {"num_burnin_steps": 1, "num_draws": 4}
    noisy = settings(50, 50, 4e-3, **baoab, momentum=0.6, batch_size=20)
    mild = noisy.model_copy(update={"batch_size": 200})
    blocks = potentials.blocks(a=two, b=potentials.powers(4))
    power = settings(100, 0, 1e-3, **baoab | {"num_draws": 400, "num_burnin_steps": 400})
    return [
        of_potential(
            "baoab-large-step",
            "3/2 w², ε a = 1.5, c = 0.6",
            one,
            settings(50, 2, 1e-2, **baoab, momentum=0.6),
            0.002,
            fast=True,
        ),
        of_potential(
            "leimkuhler-matthews",
            "3/2 w², ε a = 1.5, c = 0",
            one,
            settings(50, 2, 1e-2, **baoab, momentum=0.0),
            0.002,
            fast=True,
        ),
        of_potential(
            "baoab-start",
            "twenty times w²/2, steps 1, 3, 5 and 7 from rest at w*",
            potentials.quadratic([1.0] * 20),
            settings(50, 10, 6e-3, **short, momentum=0.5),
            0.02,
            fast=True,
        ),
        Case(
            "baoab-heat",
            "3/2 w² + x w with x = ±1, 20 rows a step: what is measured as heat",
            lambda: Truth(UnderdampedQuadratic(np.array([3.0]), noisy, noise=0.05).heat()),
            lambda: measurements.heat(noisy),
            0.004,
            fast=True,
        ),
        Case(
            "baoab-minibatches",
            "the same with 200 rows a step: λ̂ without the heat",
            lambda: Truth(UnderdampedQuadratic(np.array([3.0]), mild, noise=0.005).expected()),
            lambda: measurements.tilted_llc(mild),
            0.0035,
            fast=True,
        ),
        Case(
            "baoab-refined",
            "one entry of a tensor of two blocks, the rest frozen",
            lambda: Truth(UnderdampedQuadratic(np.array([3.0]), noisy).expected()),
            lambda: llc(blocks, noisy, {"a.w": torch.tensor([False, True])}),
            0.003,
            fast=True,
        ),
        of_potential(
            "baoab-power-4", "w⁴, γ = 0", potentials.powers(4), power, 0.002, 0.001, fast=True
        ),
    ]
