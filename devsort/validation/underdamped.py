"""Known answers for BAOAB: the splitting, momentum, heat, starting point and restrictions."""

import numpy as np
import torch

from devsort.validation import measurements, potentials
from devsort.validation.case import Case, of_potential, settings
from devsort.validation.formulas import UnderdampedQuadratic
from devsort.validation.measurements import llc
from devsort.validation.quadrature import Truth

LANES = {"num_chains": 4000, "num_burnin_steps": 100, "num_draws": 160, "num_steps_bw_draws": 2}
BAOAB = {"sampling_method": "baoab", **LANES}
NOISY = settings(50, 50, 4e-3, **BAOAB, momentum=0.6, batch_size=20)
MILD = NOISY.model_copy(update={"batch_size": 200})


def underdamped_cases() -> list[Case]:
    """Returns the cases of BAOAB. On quadratics the truth is exact at any step size and step."""
    return [*_potentials(), *_minibatches()]


def _potentials() -> list[Case]:
    one, fast = potentials.quadratic([3.0]), settings(50, 2, 1e-2, **BAOAB, momentum=0.6)
    plain = fast.model_copy(update={"momentum": 0.0})
    short = settings(50, 10, 6e-3, **BAOAB | {"num_burnin_steps": 1, "num_draws": 4}, momentum=0.5)
    power = settings(100, 0, 1e-3, **BAOAB | {"num_draws": 400, "num_burnin_steps": 400})
    cold, many = "steps 1, 3, 5 and 7 from rest at w*", potentials.quadratic([1.0] * 20)
    w4 = potentials.powers(4)
    rows = (
        ("baoab-large-step", "3/2 w², ε a = 1.5, c = 0.6", one, fast, 0.002, 0.0, True),
        ("leimkuhler-matthews", "3/2 w², ε a = 1.5, c = 0", one, plain, 0.002, 0.0, True),
        ("baoab-start", f"w²/2 in twenty dimensions, {cold}", many, short, 0.02, 0.0, True),
        ("baoab-power-4", "w⁴, γ = 0", w4, power, 0.002, 0.001, True),
    )
    return [of_potential(*row) for row in rows]


def _minibatches() -> list[Case]:
    blocks = potentials.blocks(a=potentials.quadratic([0.5, 3.0]), b=potentials.powers(4))
    h = np.array([3.0])
    return [
        Case(
            "baoab-heat",
            "3/2 w² + x w with x = ±1, 20 rows per step: the measured heat",
            lambda: Truth(UnderdampedQuadratic(h, NOISY, noise=0.05).heat()),
            lambda: measurements.heat(NOISY),
            0.004,
            fast=True,
        ),
        Case(
            "baoab-minibatches",
            "the same with 200 rows per step: λ̂ without the heat",
            lambda: Truth(UnderdampedQuadratic(h, MILD, noise=0.005).expected()),
            lambda: measurements.cooled_llc(MILD),
            0.0035,
        ),
        Case(
            "baoab-refined",
            "one entry of a tensor of two blocks, all else frozen",
            lambda: Truth(UnderdampedQuadratic(h, NOISY).expected()),
            lambda: llc(blocks, NOISY, {"a.w": torch.tensor([False, True])}),
            0.003,
            fast=True,
        ),
    ]
