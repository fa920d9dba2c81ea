"""The noise of a trajectory: the scatter of its points, and the error that they have in common.

    y_i = f(x_i) + c + φ s_i η_i,   η_i = a_i η_{i−1} + sqrt(1 − a_i²) ε_i

y and s are in nats, and x is log10(step). c is common to all checkpoints (same chains, same
batches, same starting noise): it shifts the level, but does not move any boundary. s_i is the
profile of the scatter, known up to the factor φ. a_i is exp(−|x_i − x_{i−1}|/ℓ), or the same number
a for all neighbours. ε is white noise; or, for smooth noise, ε follows the same equation as η, with
the same a.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from devsort.stages.trajectory import Trajectory

# models of the noise, and the log-likelihood gain that each must give: simple noise is more likely,
# and large slow fluctuations can look like stages
LENGTHS = {0.05: 0.0, 0.12: 3.0, 0.25: 6.0}  # ℓ in decades
NEIGHBOURS = {0.4: 2.0, 0.6: 3.0, 0.8: 4.0, 0.9: 6.0, 0.97: 6.0}  # a, at any distance
SMOOTH = {0.6: 6.0, 0.8: 6.0, 0.9: 6.0}  # a of smooth noise
OTHER_PROFILE = 4.0  # the cost of a scatter that is not proportional to the reported errors
REACH = 40  # the correlation length of neighbours is at most one in this many points
FEWEST_LOCAL, LOCAL_WINDOWS = 100, 10  # fewest points for a scatter that changes along the way
FLOOR_SHARE = 0.1  # the scatter near zero of the proportional profile, relative to the largest
CLOSEST = 1 - 1e-9  # correlation between steps whose logarithms are equal after rounding
LEAST = 1e-12  # smallest scatter in nats
FINEST = 1e-6  # smallest scatter, relative to the range of the values


@dataclass(frozen=True)
class Lags:
    """Coefficients of noise η with unit variance as an autoregression of order two.

    η_i = one_i η_{i−1} + two_i η_{i−2} + sd_i ε_i for i ≥ 1, where ε is white noise.

    Attributes:
        one: (n − 1,) coefficients of the previous value.
        two: (n − 1,) coefficients of the value before that; the first is 0.
        sd: (n − 1,) standard deviations of the white noise.
    """

    one: np.ndarray
    two: np.ndarray
    sd: np.ndarray


@dataclass(frozen=True)
class Correlation:
    """The correlation between neighbouring points.

    Attributes:
        decades: ℓ, or 0.
        neighbours: a for all neighbours, or 0.
        smooth: Whether the noise is smooth.
    """

    decades: float = 0.0
    neighbours: float = 0.0
    smooth: bool = False

    def lags(self, x: np.ndarray) -> Lags:
        """Returns the coefficients of noise at positions x (n,)."""
        if self.smooth:
            return smooth_lags(self.neighbours, len(x))
        a = np.full(len(x) - 1, self.neighbours)
        if self.decades:
            a = np.minimum(np.exp(-np.diff(x) / self.decades), CLOSEST)
        return Lags(a, np.zeros(len(x) - 1), np.sqrt(1 - a**2))

    @property
    def kind(self) -> tuple[bool, bool, bool]:
        """Whether it depends on the distance, is the same for all neighbours, and is smooth."""
        return self.decades > 0, self.neighbours > 0, self.smooth

    def __str__(self) -> str:
        if self.decades:
            return f"over {self.decades:g} decades"
        again = ", smooth" if self.smooth else ""
        return f"{self.neighbours:g} between neighbours{again}" if self.neighbours else "none"


def smooth_lags(a: float, n: int) -> Lags:
    """Returns the coefficients of an autoregression driven by an autoregression with the same a.

    η_i = 2a η_{i−1} − a² η_{i−2} + σ ε_i with σ² = (1 − a²)³ / (1 + a²); corr(η_0, η_1) is
    2a / (1 + a²).
    """
    first = 2 * a / (1 + a**2)
    one, two = np.full(n - 1, 2 * a), np.full(n - 1, -(a**2))
    sd = np.full(n - 1, np.sqrt((1 - a**2) ** 3 / (1 + a**2)))
    one[0], two[0], sd[0] = first, 0.0, np.sqrt(1 - first**2)
    return Lags(one, two, sd)


@dataclass(frozen=True)
class Noise:
    """One model of the noise.

    Attributes:
        profile: reported (the smoothed errors), even (constant), proportional (to the values),
            power (of the step) or local (estimated from the data).
        s: (S, n) profile of the scatter of each signal, in nats.
        reported: (S,) true where s is the reported error, so that φ is likely to be near 1.
        correlation: The correlation between neighbouring points.
        lags: The coefficients of this correlation.
        profile_cost: The gain in log-likelihood units that the profile must give.
    """

    profile: str
    s: np.ndarray
    reported: np.ndarray
    correlation: Correlation
    lags: Lags
    profile_cost: float = 0.0

    def whiten(self, values: np.ndarray) -> np.ndarray:
        """Whitens values (S, n) or (S, n, m). Their noise then has standard deviation φ."""
        return np.stack([whiten(v, s, self.lags) for v, s in zip(values, self.s, strict=True)])

    @property
    def cost(self) -> float:
        """The gain in log-likelihood units that this model must give."""
        c = self.correlation
        costs = SMOOTH if c.smooth else NEIGHBOURS
        return self.profile_cost + LENGTHS.get(c.decades, 0.0) + costs.get(c.neighbours, 0.0)

    @property
    def log_determinant(self) -> float:
        """The log-determinant of the covariance at φ = 1, summed over signals."""
        correlation = 2 * float(np.log(self.lags.sd).sum())
        return len(self.s) * correlation + 2 * float(np.log(self.s).sum())


def whiten(values: np.ndarray, s: np.ndarray, lags: Lags) -> np.ndarray:
    """Whitens values.

    Rows are (z_i − one_i z_{i−1} − two_i z_{i−2}) / sd_i, where z = v/s.

    Args:
        values: (n,) or (n, m).
        s: (n,) scatter.
        lags: Coefficients of the correlation.
    """
    z = values.T / s
    out = z.copy()
    out[..., 1:] -= lags.one * z[..., :-1]
    out[..., 2:] -= lags.two[1:] * z[..., :-2]
    out[..., 1:] /= lags.sd
    return out.T


def colour(white: np.ndarray, s: np.ndarray, lags: Lags) -> np.ndarray:
    """Computes the inverse of `whiten` for white noise (n, m)."""
    z = white.copy()
    for i, (one, two, sd) in enumerate(zip(lags.one, lags.two, lags.sd, strict=True), 1):
        z[i] = one * z[i - 1] + two * z[i - 2] + sd * white[i]
    return (z.T * s).T


def correlations(x: np.ndarray) -> Iterator[Correlation]:
    """Yields the correlations to try for a trajectory."""
    yield Correlation()
    yield from (Correlation(decades=length) for length in LENGTHS)
    most = np.exp(-REACH / len(x))
    yield from (Correlation(neighbours=a) for a in NEIGHBOURS if a <= most)
    yield from (Correlation(neighbours=a, smooth=True) for a in SMOOTH if a <= most)


def profiles(trajectory: Trajectory) -> Iterator[tuple[str, np.ndarray, np.ndarray, float]]:
    """Yields the name, s (S, n), the signals with reported errors (S,) and the cost per profile."""
    y, se = trajectory.signals()
    known = np.isfinite(se).all(1)
    spare = np.stack([np.full(len(trajectory), typical_scatter(v)) for v in y])
    if known.any():
        s = np.where(known[:, None], np.stack([smoothed_errors(e) for e in se]), spare)
        s[0] *= shape_share(trajectory) if known[0] else 1.0
        yield "reported", s, known, 0.0
    s = np.where(known[:, None], np.median(se, 1)[:, None], spare)
    unknown = np.zeros(len(y), bool)
    yield "even", s, unknown, OTHER_PROFILE
    yield "proportional", np.stack([levels(v) for v in y]), unknown, OTHER_PROFILE
    if len(trajectory) >= FEWEST_LOCAL:
        number = len(y) * float(np.log(len(trajectory)))
        s = np.stack([local_scatter(trajectory.x, v) for v in y])
        power = np.stack([power_of_step(trajectory.x, v) for v in s])
        yield "power", power, unknown, OTHER_PROFILE + number
        yield "local", s, unknown, LOCAL_WINDOWS * number


def smoothed_errors(se: np.ndarray) -> np.ndarray:
    """Shrinks each standard error towards its running median.

    Standard errors from a few chains are uncertain by tens of per cent.
    """
    windows = sliding_window_view(np.pad(np.log(se), 3, mode="reflect"), 7)
    return np.exp((np.log(se) + 3 * np.median(windows, -1)) / 4)


def shape_share(trajectory: Trajectory) -> float:
    """Returns the standard error of the shape of the curve, as a fraction of the reported one.

    Each chain is compared with the mean over chains. A constant offset and a slope over x belong to
    the chain and do not affect the shape; the remaining scatter is the error of the shape. The
    result is 1 if the chains are unknown.
    """
    apart = chain_departures(trajectory)
    if apart is None:
        return 1.0
    n, number = apart.shape
    relative = apart / trajectory.se[:, None]
    variance = (relative**2).sum(1) / ((number - 1) * number) * n / (n - 2)
    return float(np.sqrt(max(np.mean(variance), FINEST**2)))


def chain_departures(trajectory: Trajectory) -> np.ndarray | None:
    """Returns (n, C), each chain minus the mean over chains, its own offset and its slope.

    None if there are fewer than three chains, or if one failed.
    """
    chains = trajectory.chains
    if chains is None or chains.shape[1] < 3 or not np.isfinite(chains).all():
        return None
    base = np.stack([np.ones(len(trajectory)), trajectory.x], 1) / trajectory.se[:, None]
    apart = (chains - chains.mean(1, keepdims=True)) / trajectory.se[:, None]
    own = base @ np.linalg.lstsq(base, apart, rcond=None)[0]
    return (apart - own) * trajectory.se[:, None]


def local_scatter(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Returns the local scatter (n,) about the line between both neighbours.

    It is a median over a tenth of the points.
    """
    share = (x[1:-1] - x[:-2]) / (x[2:] - x[:-2])
    off = y[1:-1] - y[:-2] - share * (y[2:] - y[:-2])
    off = np.abs(off) / np.sqrt(1 + share**2 + (1 - share) ** 2)
    half = len(x) // (2 * LOCAL_WINDOWS)
    windows = sliding_window_view(np.pad(off, half + 1, mode="reflect"), 2 * half + 1)
    return np.maximum(1.4826 * np.median(windows, -1), finest(y))


def power_of_step(x: np.ndarray, scatter: np.ndarray) -> np.ndarray:
    """Returns (n,), a power law in the step fitted to a scatter over x = log10(step)."""
    base = np.stack([np.ones_like(x), x], 1)
    return np.exp(base @ np.linalg.lstsq(base, np.log(scatter), rcond=None)[0])


def levels(y: np.ndarray) -> np.ndarray:
    """Returns the running mean of |y| plus a floor (n,). Relative errors are proportional to it."""
    half = max(3, len(y) // (2 * LOCAL_WINDOWS))
    windows = sliding_window_view(np.pad(np.abs(y), half, mode="reflect"), 2 * half + 1)
    size = windows.mean(-1)
    return size + FLOOR_SHARE * max(float(size.max()), finest(y))


def typical_scatter(y: np.ndarray) -> float:
    """Returns the scatter of a signal without errors: 1.4826 · MAD / sqrt(6) of the second
    differences.
    """
    second = np.diff(y, 2)
    return max(1.4826 * float(np.median(np.abs(second))) / np.sqrt(6), finest(y))


def finest(y: np.ndarray) -> float:
    """Returns the smallest plausible scatter of values y."""
    return max(FINEST * float(np.ptp(y)), 1e-9 * float(np.abs(y).max()), LEAST)
