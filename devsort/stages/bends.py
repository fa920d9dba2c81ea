"""Detects bends: joints that only follow a smooth curve, and so are not boundaries.

The smooth curves are polynomials, exponentials and logistic functions, some of them added to a
line. Curves and joints are penalized by log n for each parameter beyond those of a line (the
Bayesian information criterion); a joint has two.
"""

import numpy as np

from devsort.stages.fit import Fit, design
from devsort.stages.noise import whiten

# centres and widths of the logistic functions, in units of the stretch
CENTRES, WIDTHS = np.linspace(0.2, 0.8, 25), np.geomspace(0.2, 0.4, 9)
# rates of the exponentials
RATES = np.concatenate([np.linspace(-3, -0.1, 30), np.linspace(0.1, 3, 30)])
FEWEST = 5  # the fewest points to which a smooth curve is fitted
TINY = 1e-300


def smooth_is_as_good(
    model: Fit, joints: list[int], low: float, high: float, margin: float
) -> bool:
    """Whether a smooth curve describes a stretch as well as its joints do, up to a margin.

    Args:
        model: The fit.
        joints: Ranks of the joints within the stretch.
        low: Start of the stretch in decades.
        high: End of the stretch in decades.
        margin: Log-likelihood units by which the joints must be better.
    """
    inside = (model.x >= low - 1e-12) & (model.x <= high + 1e-12)
    if inside.sum() < FEWEST:
        return True
    x = model.x[inside]
    t = (x - low) / (high - low)
    cost = np.log(len(x)) * len(model.y)
    one, line, parabola = (np.vander(t, degree + 1) for degree in (0, 1, 2))
    exponentials, logistics = np.exp(RATES * t[:, None]), _logistics(t)
    smooth = min(
        _chi2(model, inside, one, exponentials) + cost,
        _chi2(model, inside, line, t[:, None] ** 2) + cost,
        _chi2(model, inside, line, exponentials) + 2 * cost,
        _chi2(model, inside, one, logistics) + 2 * cost,
        _chi2(model, inside, parabola, t[:, None] ** 3) + 2 * cost,
        _chi2(model, inside, line, logistics) + 3 * cost,
    )
    first, *rest = np.split(design(x, model.position[joints], model.jump[joints]), [-1], 1)
    kinked = _chi2(model, inside, first, rest[0]) + 2 * cost * len(joints)
    return smooth < kinked + margin


def _logistics(t: np.ndarray) -> np.ndarray:
    """Returns (n, m), the values of m logistic functions at t (n,)."""
    off = t[:, None, None] - CENTRES[:, None]
    return (1 / (1 + np.exp(-off / WIDTHS))).reshape(len(t), -1)


def _chi2(model: Fit, inside: np.ndarray, base: np.ndarray, curves: np.ndarray) -> float:
    """Returns the residual sum of squares of the base (n, k) with the best of the curves (n, m).

    It is summed over signals, each in units of its scatter.
    """
    lags = model.noise.correlation.lags(model.x[inside])
    total = np.zeros(curves.shape[1])
    for y, s in zip(model.y[:, inside], model.scatter[:, inside], strict=True):
        q = np.linalg.qr(whiten(base, s, lags))[0]
        white, z = whiten(curves, s, lags), whiten(y, s, lags)
        white, z = white - q @ (q.T @ white), z - q @ (q.T @ z)
        total += z @ z - (z @ white) ** 2 / np.maximum((white**2).sum(0), TINY)
    return float(total.min())
