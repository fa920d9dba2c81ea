"""Two other ways to find boundaries: zero slope of a Gaussian process, and prominence.

Both see only turning points, not changes of rate; `stage_benchmark.py --approaches` compares them
with the detector. The Gaussian process needs scikit-learn: pip install scikit-learn.
"""

import warnings
from itertools import pairwise

import numpy as np
from scipy.signal import find_peaks

from devsort.rng import stream
from devsort.stages import Trajectory
from devsort.stages.config import StagesConfig
from devsort.stages.noise import smoothed_errors
from devsort.stages.segments import INTERVAL, Boundary

GRID = 300  # positions at which the derivative is judged
LENGTHS = (0.1, 3.0)  # bounds of ℓ in decades
THRESHOLD = 4.0  # standard errors by which a peak or dip must stand out
REACH = 0.3  # decades within which a resampled extremum is taken for the same one


def zero_slope(trajectory: Trajectory, config: StagesConfig) -> list[Boundary]:
    """Where the derivative of a noisy Gaussian process clearly changes its sign (arXiv 2402.02364).

        y_i = f(x_i) + s_i η_i,   f ~ GP(mean, a² exp(−|x − x'|² / 2ℓ²)),   x = log10(step)
        f' | y is Gaussian: its mean and covariance follow from derivatives of the kernel.

    a, ℓ and an additional noise variance maximise the marginal likelihood. The sign of the
    derivative is certain where its 95 % band excludes 0. A boundary lies where the posterior mean
    of f' is zero between two certain stretches of opposite sign.
    """
    x = np.linspace(trajectory.x[0], trajectory.x[-1], GRID)
    mean, covariance = derivative(trajectory, x)
    sign = np.where(np.abs(mean) > 1.96 * np.sqrt(np.diag(covariance)), np.sign(mean), 0)
    rng = stream(config.seed, "gaussian process")
    draws = rng.multivariate_normal(mean, covariance, config.bootstrap, method="eigh")
    return [_zero(x, mean, draws, low, high) for low, high in turns(sign)]


def prominence(trajectory: Trajectory, config: StagesConfig) -> list[Boundary]:
    """Peaks and dips of values smoothed over three points.

    An extremum counts if its prominence is more than THRESHOLD times the standard error there.
    Intervals come from resampled values.
    """
    x, s = trajectory.x, smoothed_errors(trajectory.se)
    indices = extrema(trajectory.llc, s)
    rng = stream(config.seed, "prominence")
    resampled = trajectory.llc + s * rng.standard_normal((config.bootstrap, len(x)))
    positions = [x[extrema(y, s)] for y in resampled]
    return [_extremum(float(x[i]), positions) for i in indices]


def turns(sign: np.ndarray) -> list[tuple[int, int]]:
    """Last index of a certain stretch and first of the next, if they have opposite signs."""
    certain = np.flatnonzero(sign)
    return [(int(i), int(j)) for i, j in pairwise(certain) if sign[i] != sign[j]]


def derivative(trajectory: Trajectory, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Posterior of f' at x in nats per decade: mean (m,) and covariance (m, m)."""
    at, y, s = trajectory.x, trajectory.llc, smoothed_errors(trajectory.se)
    centre, unit = y.mean(), y.std() or 1.0
    amplitude, length, extra = _fitted(at, (y - centre) / unit, s / unit)
    gram = amplitude * _rbf(at, at, length) + np.diag((s / unit) ** 2 + extra)
    cross = -amplitude * (x[:, None] - at) / length**2 * _rbf(x, at, length)  # cov(f'(x), f(at))
    gap = (x[:, None] - x) / length
    prior = amplitude / length**2 * (1 - gap**2) * np.exp(-(gap**2) / 2)  # cov(f'(x), f'(x))
    mean = cross @ np.linalg.solve(gram, (y - centre) / unit)
    covariance = prior - cross @ np.linalg.solve(gram, cross.T)
    return mean * unit, (covariance + covariance.T) / 2 * unit**2


def extrema(y: np.ndarray, s: np.ndarray) -> np.ndarray:
    """Indices of the peaks and dips of smoothed values that stand out from the standard errors."""
    padded = np.pad(y / s**2, 1, mode="edge"), np.pad(1 / s**2, 1, mode="edge")
    total, weight = (np.convolve(p, np.ones(3), "valid") for p in padded)
    smooth, least = total / weight, THRESHOLD * np.sqrt(1 / weight)
    both = [find_peaks(side, prominence=least)[0] for side in (smooth, -smooth)]
    return np.sort(np.concatenate(both))


def _rbf(a: np.ndarray, b: np.ndarray, length: float) -> np.ndarray:
    return np.exp(-((a[:, None] - b) ** 2) / (2 * length**2))


def _fitted(x: np.ndarray, y: np.ndarray, s: np.ndarray) -> np.ndarray:
    """a², ℓ and the variance that is added to the noise."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.gaussian_process import GaussianProcessRegressor
    from sklearn.gaussian_process.kernels import RBF, ConstantKernel, WhiteKernel

    kernel = ConstantKernel(1.0, (0.01, 100)) * RBF(0.5, LENGTHS) + WhiteKernel(1e-3, (1e-8, 1.0))
    with warnings.catch_warnings():
        # a parameter at its bound is an answer here
        warnings.simplefilter("ignore", ConvergenceWarning)
        best = GaussianProcessRegressor(kernel, alpha=s**2).fit(x[:, None], y).kernel_
    return np.exp(best.theta)


def _zero(x: np.ndarray, mean: np.ndarray, draws: np.ndarray, low: int, high: int) -> Boundary:
    """The zero of f' between two certain stretches, and the spread of the zeros of draws."""
    part = slice(low, high + 1)
    at = _crossing(x[part], mean[part])
    interval = np.quantile([_crossing(x[part], one[part]) for one in draws], INTERVAL)
    return Boundary(at, float(min(at, interval[0])), float(max(at, interval[1])))


def _crossing(x: np.ndarray, y: np.ndarray) -> float:
    """Where the running sum of y has its extremum: the main turning point if there are several."""
    total = np.concatenate([[0.0], np.cumsum(y)])
    return float(x[min(int(np.argmax(total * np.sign(y[0]))), len(x) - 1)])


def _extremum(at: float, positions: list[np.ndarray]) -> Boundary:
    nearest = [float(d[np.argmin(np.abs(d - at))]) for d in positions if len(d)]
    low, high = np.quantile([at, *(x for x in nearest if abs(x - at) < REACH)], INTERVAL)
    return Boundary(at, float(min(low, at)), float(max(high, at)))
