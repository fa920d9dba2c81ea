"""Boundaries where the derivative of a noisy Gaussian process surely changes its sign (after arXiv 2402.02364).

    y_i = f(x_i) + s_i η_i,   f ~ GP(mean, a² exp(−|x − x'|² / 2ℓ²)),   x = log10(step)
    f' | y is Gaussian: its mean and covariance follow from derivatives of the kernel.

a, ℓ and a factor on the noise maximise the marginal likelihood (scikit-learn). The derivative is rising or falling
where its 95 % band excludes 0; a boundary lies where the posterior mean of f' is zero between two certain stretches
of opposite sign. Changes of rate without a change of sign are out of its reach.
"""

import warnings
from itertools import pairwise

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF, ConstantKernel, Kernel, WhiteKernel

from devsort.config import StagesConfig
from devsort.rng import stream
from devsort.stages.piecewise import segments_at, smoothed_errors
from devsort.stages.segments import Boundary, Segment
from devsort.stages.trajectory import Trajectory

GRID = 300  # positions at which the derivative is judged
LENGTHS = (0.1, 3.0)  # bounds of ℓ in decades


def find(trajectory: Trajectory, config: StagesConfig) -> tuple[list[Boundary], list[Segment]]:
    """Boundaries with intervals, and the segments between them; see `piecewise.find`."""
    x = np.linspace(trajectory.x[0], trajectory.x[-1], GRID)
    mean, covariance = derivative(trajectory, x)
    sign = np.where(np.abs(mean) > 1.96 * np.sqrt(np.diag(covariance)), np.sign(mean), 0)
    draws = stream(config.seed, "gaussian process").multivariate_normal(
        mean, covariance, config.bootstrap, method="eigh"
    )
    boundaries = [_zero(x, mean, draws, low, high) for low, high in turns(sign)]
    return boundaries, segments_at(trajectory, boundaries, config)


def turns(sign: np.ndarray) -> list[tuple[int, int]]:
    """Last index of a certain stretch and first index of the next, where the two have opposite signs."""
    certain = np.flatnonzero(sign)
    return [(int(i), int(j)) for i, j in pairwise(certain) if sign[i] != sign[j]]


def derivative(trajectory: Trajectory, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Posterior of f' at x in nats per decade: mean (m,) and covariance (m, m)."""
    at, y, s = trajectory.x, trajectory.llc, smoothed_errors(trajectory.se)
    centre, unit = y.mean(), y.std() or 1.0
    kernel = _fitted(at, (y - centre) / unit, s / unit)
    amplitude, length, extra = np.exp(kernel.theta)
    gram = amplitude * _rbf(at, at, length) + np.diag((s / unit) ** 2 + extra)
    cross = -amplitude * (x[:, None] - at) / length**2 * _rbf(x, at, length)  # cov(f'(x), f(at))
    gap = (x[:, None] - x) / length
    prior = amplitude / length**2 * (1 - gap**2) * np.exp(-(gap**2) / 2)  # cov(f'(x), f'(x))
    mean = cross @ np.linalg.solve(gram, (y - centre) / unit)
    covariance = prior - cross @ np.linalg.solve(gram, cross.T)
    return mean * unit, (covariance + covariance.T) / 2 * unit**2


def _rbf(a: np.ndarray, b: np.ndarray, length: float) -> np.ndarray:
    return np.exp(-((a[:, None] - b) ** 2) / (2 * length**2))


def _fitted(x: np.ndarray, y: np.ndarray, s: np.ndarray) -> Kernel:
    kernel = ConstantKernel(1.0, (0.01, 100)) * RBF(0.5, LENGTHS) + WhiteKernel(1e-3, (1e-8, 1.0))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # a parameter at its bound is an answer here
        return GaussianProcessRegressor(kernel, alpha=s**2).fit(x[:, None], y).kernel_


def _zero(x: np.ndarray, mean: np.ndarray, draws: np.ndarray, low: int, high: int) -> Boundary:
    """The zero of f' between two certain stretches, and the spread of the zeros of draws from the posterior."""
    part = slice(low, high + 1)
    zeros = [_crossing(x[part], one[part]) for one in draws]
    at = _crossing(x[part], mean[part])
    interval = np.quantile(zeros, [0.025, 0.975])
    return Boundary(at, float(min(at, interval[0])), float(max(at, interval[1])))


def _crossing(x: np.ndarray, y: np.ndarray) -> float:
    """Where the running sum of y has its extremum: the turn that matters if there are several."""
    total = np.concatenate([[0.0], np.cumsum(y)])
    return float(x[min(int(np.argmax(total * np.sign(y[0]))), len(x) - 1)])
