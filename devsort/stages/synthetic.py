"""Synthetic trajectories with known boundaries.

A trajectory is piecewise linear over x = log10(step), with jumps, and its boundaries are known
exactly. There are also smooth shapes without a boundary. The noise is similar to that of SGLD
estimates of the LLC: it has the same relative size, differs from point to point, is correlated
between neighbours (because of common random numbers), and has outliers. The reported standard
errors are themselves uncertain, like those from four chains.
"""

from dataclasses import dataclass

import numpy as np

from devsort.rng import stream
from devsort.stages.trajectory import Trajectory

# one or two dips in a long rise, of 1 to 2 % of the level (five times the scatter)
SMALL = ("small dip", "small dips")
SHAPES = ("ramp", "peak", "dip", "plateau", "step", "slowdown", "development", "collapse")
FLAT_SHAPES = ("noise", "drift", "rise")  # no boundary
FLOOR = 2.0  # nats
CHAINS = 4
# smallest distance of a joint from the chord of its two segments, as a fraction of its value
STRENGTH = 0.35
# shapes whose last rate is at most a third of the one before, in the same direction
SLOWING = ("slowdown", "collapse")


@dataclass(frozen=True)
class Noise:
    """The scatter of the values around the truth, and the errors that are reported.

    Attributes:
        relative: Standard error as a fraction of the LLC.
        correlation_length: ℓ in decades; corr = exp(−distance/ℓ).
        outliers: Fraction of points that are off by 5 to 10 standard errors.
        missing: Fraction of checkpoints that are missing.
        se_spread: Relative error of the reported standard errors.
        floor: Standard error of an LLC near zero, in nats.
        offset: Error of the level that all checkpoints have in common, in standard errors.
        drift: Size of a slow drift over the window, in standard errors: half of it is a line, half
            a smooth rise.
        factor: Reported errors divided by true errors.
        smooth: Number of neighbours that are averaged, as in a smoothed curve.
        chains: Number of chains whose values are given; 0 for none.
        linear: Whether checkpoints are evenly spaced in steps rather than in log step.
    """

    relative: float = 0.03
    correlation_length: float = 0.05
    outliers: float = 0.01
    missing: float = 0.05
    se_spread: float = 0.3
    floor: float = FLOOR
    offset: float = 0.0
    drift: float = 0.0
    factor: float = 1.0
    smooth: int = 1
    chains: int = CHAINS
    linear: bool = False


@dataclass(frozen=True)
class Planted:
    """A synthetic trajectory and its true values.

    Attributes:
        trajectory: The input of a detector.
        boundaries: True positions of the boundaries in log10(step).
        truth: (n,) noise-free values.
    """

    trajectory: Trajectory
    boundaries: np.ndarray
    truth: np.ndarray


def plant(
    shape: str, seed: int, points: int = 40, noise: Noise = Noise(), last: float = 6000.0
) -> Planted:
    """Draws one trajectory with a given shape.

    Args:
        shape: One of SHAPES, SMALL or FLAT_SHAPES.
        seed: Names the random stream, together with the shape.
        points: Number of checkpoints before some are removed.
        noise: See `Noise`.
        last: Last training step.
    """
    rng = stream(seed, f"planted {shape}")
    step = _schedule(rng, points, last, noise)
    draw = _smooth if shape in FLAT_SHAPES else _small if shape in SMALL else _segments
    truth, boundaries = draw(shape, np.log10(step), rng)
    return Planted(_observe(step, truth, noise, rng), boundaries, truth)


def _schedule(rng: np.random.Generator, points: int, last: float, noise: Noise) -> np.ndarray:
    """Returns steps evenly spaced in log step, or in steps, with some missing.

    They are whole numbers, so they are sparse at the start.
    """
    step = np.unique(np.round(np.geomspace(1, last, points)))
    # the first steps coincide after rounding, so use more points
    if len(step) < points:
        step = np.unique(np.round(np.geomspace(1, last, 2 * points - len(step))))
    if noise.linear:
        step = np.round(np.linspace(last / points, last, points))
    keep = rng.random(len(step)) >= noise.missing
    keep[[0, -1]] = True
    return step[keep]


def _smooth(shape: str, x: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    level, span = _log_uniform(rng, 100, 800), x[-1] - x[0]
    t = (x - x[0]) / span
    if shape == "noise":
        truth = np.full_like(x, level)
    elif shape == "drift":
        truth = level * (1 + _signed(rng, 0.2, 0.8) * (t - 0.5))
    else:
        truth = level * (0.2 + rng.uniform(1, 4) * _bend(t, rng))
    return truth, np.empty(0)


def _bend(t: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Returns a rise from 0 to 1 without a plateau: logistic, power of the step, or saturating."""
    kind = rng.integers(3)
    if kind == 0:
        # in units of the window: the rate at the ends is a tenth to half of the largest
        width = rng.uniform(0.2, 0.4)
        centre = rng.uniform(0.4, 0.6)
        y = 1 / (1 + np.exp(-(t - centre) / width))
    else:
        rate = rng.uniform(0.5, 2.5)
        y = np.exp(rate * t) if kind == 1 else -np.exp(-rate * t)
    return (y - y[0]) / (y[-1] - y[0])


def _segments(shape: str, x: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Draws values until the strength of every boundary is at least `STRENGTH`."""
    while True:
        levels, jump = _levels(shape, rng)
        joints = _joints(x, 1 if jump else len(levels) - 2, rng)
        edges = np.array([x[0], *joints, x[-1]])
        if jump:
            return np.where(x > joints[0], levels[1], levels[0]), joints
        if shape in SLOWING:
            rate = (levels[-2] - levels[-3]) / (edges[-2] - edges[-3])
            levels[-1] = levels[-2] + rng.uniform(0.0, 1 / 3) * rate * (edges[-1] - edges[-2])
        if strengths(edges, np.array(levels)).min() >= STRENGTH and min(levels) > 0:
            return np.interp(x, edges, levels), joints


def _small(shape: str, x: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Draws a rise over the whole window, with dips of 1 to 2 % of the level in its last decade."""
    level, count = _log_uniform(rng, 60, 300), 2 * (1 + (shape == "small dips"))
    width = rng.uniform(0.1, 0.15, count)
    gaps = rng.dirichlet(np.full(count, 4.0)) * (0.85 - width.sum())
    joints = x[-1] - 0.9 + np.cumsum(gaps + width)
    edges = np.array([x[0], *joints, x[-1]])
    depth = rng.uniform(0.01, 0.02, count // 2)
    values = [level * rng.uniform(0.4, 0.7)]
    for i in range(len(joints)):
        change = -depth[i // 2] if i % 2 else rng.uniform(0.03, 0.06)
        values.append(level if i == 0 else values[-1] + level * change)
    values.append(values[-1] + level * rng.uniform(0.02, 0.05))
    return np.interp(x, edges, values), joints


def strengths(edges: np.ndarray, levels: np.ndarray) -> np.ndarray:
    """Returns (k,), the distance of each joint from the chord over its two segments.

    The distance is a fraction of the value at the joint.

    Args:
        edges: (k + 2,) ends of the window and joints, in decades.
        levels: (k + 2,) values there.
    """
    share = (edges[1:-1] - edges[:-2]) / (edges[2:] - edges[:-2])
    chord = levels[:-2] + share * (levels[2:] - levels[:-2])
    return np.abs(levels[1:-1] - chord) / levels[1:-1]


def _joints(x: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """Draws positions at least 0.45 decades apart, and four checkpoints away from the ends.

    They are closer together if the window is too short for that.
    """
    low, high = x[4], x[-5]
    apart = min(0.45, 0.8 * (high - low) / (count + 1))
    slack = (high - low) - apart * (count - 1)
    return low + np.sort(rng.uniform(0, slack, count)) + apart * np.arange(count)


def _levels(shape: str, rng: np.random.Generator) -> tuple[list[float], bool]:
    """Draws the values at the first point, at each joint and at the last point.

    Each change is by a factor of 1.6 or more. Also returns whether the joint is a jump.
    """
    base = _log_uniform(rng, 60, 300)

    def up() -> float:
        return rng.uniform(1.6, 3.5)

    if shape == "ramp":
        return [base, base, base * up()], False
    if shape == "peak":
        return [base, base * (top := up()), base * top / up()], False
    if shape == "dip":
        return [base * up(), base, base * up()], False
    if shape == "plateau":
        return [base, base * (mid := up()), base * mid, base * mid * up()], False
    if shape == "step":
        return [base, base * up()], True
    if shape == "slowdown":
        return [base, base * (mid := rng.uniform(2.5, 5)), base * mid], False
    if shape == "development":  # as with weight decay: rise, dip, rise to the peak, fall
        first = base * up()
        dip = first / rng.uniform(1.6, 2.0)
        return [base, base, first, dip, dip * (top := up()), dip * top / rng.uniform(1.6, 2)], False
    # collapse: rise, then fall, as without weight decay
    return [base, base, base * 3, base * 1.2, base * 0.5], False


def _observe(
    step: np.ndarray, truth: np.ndarray, noise: Noise, rng: np.random.Generator
) -> Trajectory:
    n, x = len(step), np.log10(step)
    se = (noise.relative * np.abs(truth) + noise.floor) * rng.uniform(0.7, 1.4, n)
    count = noise.chains or CHAINS
    eta = np.stack([_scatter(x, noise, rng) for _ in range(count)], 1)  # (n, C)
    chains = truth[:, None] + np.sqrt(count) * se[:, None] * eta
    common = np.median(se) * np.sqrt(count) * _common(x, noise, count, rng)
    off = rng.random(n) < noise.outliers
    shift = np.where(off, rng.choice([-1, 1], n) * rng.uniform(5, 10, n) * se, 0.0)
    true = np.hypot(se, np.median(se) * np.hypot(noise.offset, noise.drift))
    reported = noise.factor * true * np.exp(noise.se_spread * rng.standard_normal(n))
    chains = chains + common + shift[:, None]
    return Trajectory(step, chains.mean(1), reported, chains=chains if noise.chains else None)


def _scatter(x: np.ndarray, noise: Noise, rng: np.random.Generator) -> np.ndarray:
    """Draws the scatter (n,) of one chain. Averaging over neighbours does not change its size."""
    longer = noise.smooth - 1
    if not longer:
        return _correlated(x, noise.correlation_length, rng)
    white = rng.standard_normal(len(x) + longer)
    return np.convolve(white, np.full(noise.smooth, noise.smooth**-0.5), "valid")


def _common(x: np.ndarray, noise: Noise, count: int, rng: np.random.Generator) -> np.ndarray:
    """Draws the errors (n, C) that the checkpoints of a chain have in common."""
    if not (noise.offset or noise.drift):
        return np.zeros((len(x), count))
    t = (x - x[0]) / (x[-1] - x[0])
    slow = np.stack([t - 0.5, 0.5 * np.tanh(2 * t - 1)], 1) @ rng.standard_normal((2, count))
    return noise.offset * rng.standard_normal(count) + noise.drift * slow


def _correlated(x: np.ndarray, length: float, rng: np.random.Generator) -> np.ndarray:
    """Draws an Ornstein–Uhlenbeck path with unit variance at positions x."""
    white = rng.standard_normal(len(x))
    if length <= 0:
        return white
    a = np.exp(-np.diff(x) / length)
    for i in range(1, len(x)):
        white[i] = a[i - 1] * white[i - 1] + np.sqrt(1 - a[i - 1] ** 2) * white[i]
    return white


def _log_uniform(rng: np.random.Generator, low: float, high: float) -> float:
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))


def _signed(rng: np.random.Generator, low: float, high: float) -> float:
    return float(rng.choice([-1, 1]) * rng.uniform(low, high))
