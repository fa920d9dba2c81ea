"""Joints that only follow a smooth curve: bends, and no boundaries.

Smooth curves are polynomials, exponentials and logistic rises over a stretch, each also beside a
line. Curves and joints pay log n for each parameter beyond a line's (the Bayesian information
criterion); a joint has two.
"""

from collections.abc import Iterator
from itertools import product

import numpy as np

from devsort.stages.config import StagesConfig
from devsort.stages.fit import Fit, design
from devsort.stages.noise import whiten

DEGREES = (2, 3)  # of polynomials
# of logistic rises, in windows
CENTRES, WIDTHS = np.linspace(-0.25, 1.25, 31), (0.2, 0.23, 0.26, 0.3, 0.35, 0.4)
RATES = (*np.arange(-3, 0, 0.2), *np.arange(0.2, 3.2, 0.2))  # of exponential rises, per window
FEWEST = 5  # points that a smooth curve needs


def smooth_is_as_good(
    model: Fit, joints: list[int], low: float, high: float, config: StagesConfig
) -> bool:
    """Whether a smooth curve describes a stretch as well as some joints do, to a margin.

    Args:
        model: The fit.
        joints: Ranks of the joints within the stretch.
        low: Start of the stretch in decades.
        high: Its end.
        config: `bend_margin`, by which the joints must be better.
    """
    inside = (model.x >= low - 1e-12) & (model.x <= high + 1e-12)
    if inside.sum() < FEWEST:
        return True
    x = model.x[inside]
    cost = np.log(len(x)) * len(model.y)
    lines = design(x, model.position[joints], model.jump[joints])
    kinked = _chi2(lines, model, inside) + 2 * cost * len(joints)
    curves = _smooth_curves((x - low) / (high - low))
    smooth = min(_chi2(columns, model, inside) + cost * more for columns, more in curves)
    return smooth < kinked + config.bend_margin


def _smooth_curves(t: np.ndarray) -> Iterator[tuple[np.ndarray, int]]:
    """Columns of curves without a joint on 0…1, and their number of parameters beyond a line's."""
    one = np.ones_like(t)
    for degree in DEGREES:
        yield np.vander(t, degree + 1), degree - 1
    for rate in RATES:
        curve = np.exp(rate * t)
        yield np.stack([one, curve, t * curve], 1), 1
        yield np.stack([one, t, curve, t * curve], 1), 2
    for centre, width in product(CENTRES, WIDTHS):
        u = (t - centre) / width
        rise = 1 / (1 + np.exp(-u))
        slope = rise * (1 - rise)
        yield np.stack([one, rise, slope, u * slope], 1), 2
        yield np.stack([one, t, rise, slope, u * slope], 1), 3


def _chi2(columns: np.ndarray, model: Fit, inside: np.ndarray) -> float:
    """Residual sum of squares of all signals, in units of the scatter."""
    total = 0.0
    a = model.noise.a[np.flatnonzero(inside)[1:] - 1]
    for y, s in zip(model.y[:, inside], model.scatter[:, inside], strict=True):
        white, z = whiten(columns, s, a), whiten(y, s, a)
        residual = z - white @ np.linalg.lstsq(white, z, rcond=None)[0]
        total += float(residual @ residual)
    return total
