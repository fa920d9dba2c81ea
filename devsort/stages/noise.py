"""The noise of a trajectory: how far its points scatter, and how much of their errors is common.

    y_i = f(x_i) + c + φ s_i η_i,   η_i = a_i η_{i−1} + sqrt(1 − a_i²) ε_i

y and s are in nats, x is log10(step). c is common to all checkpoints (same chains, same batches,
same starting noise): it moves the level and no boundary. s_i is a profile of the scatter, known up
to φ. a_i is exp(−|x_i − x_{i−1}|/ℓ), or one number a for all neighbours. ε is white; or, for noise
that is smooth, it follows the same equation once more, with the same a.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from devsort.stages.trajectory import Trajectory

# what noise may be, and log-likelihood units it must earn: plain noise is the likelier one, and
# noise that swings far and slowly can pass for stages
LENGTHS = {0.05: 0.0, 0.12: 3.0, 0.25: 6.0}  # ℓ in decades
NEIGHBOURS = {0.4: 2.0, 0.6: 3.0, 0.8: 4.0, 0.9: 6.0, 0.97: 6.0}  # a, whatever the distance
SMOOTH = {0.6: 6.0, 0.8: 6.0, 0.9: 6.0}  # a of smooth noise
OTHER_PROFILE = 4.0  # the scatter does not go with the reported errors
REACH = 40  # a correlation of neighbours may reach over one point in so many
FEWEST_LOCAL, LOCAL_WINDOWS = 100, 10  # points from which the scatter may change along the way
FLOOR_SHARE = 0.1  # of the largest value: scatter near zero, beside a proportional one
CLOSEST = 1 - 1e-9  # correlation of steps so near that their logarithms are the same
LEAST = 1e-12  # nats
FINEST = 1e-6  # of the range of the values: no scatter is taken to be smaller


@dataclass(frozen=True)
class Lags:
    """What noise η of unit size takes from its last two values.

    η_i = one_i η_{i−1} + two_i η_{i−2} + sd_i ε_i for i ≥ 1, ε white.

    Attributes:
        one: (n − 1,).
        two: (n − 1,), the first of them 0.
        sd: (n − 1,).
    """

    one: np.ndarray
    two: np.ndarray
    sd: np.ndarray


@dataclass(frozen=True)
class Correlation:
    """How neighbours agree.

    Attributes:
        decades: ℓ, or 0.
        neighbours: a of all neighbours, or 0.
        smooth: Whether the noise is smooth.
    """

    decades: float = 0.0
    neighbours: float = 0.0
    smooth: bool = False

    def lags(self, x: np.ndarray) -> Lags:
        """Of noise at positions x (n,)."""
        if self.smooth:
            return smooth_lags(self.neighbours, len(x))
        a = np.full(len(x) - 1, self.neighbours)
        if self.decades:
            a = np.minimum(np.exp(-np.diff(x) / self.decades), CLOSEST)
        return Lags(a, np.zeros(len(x) - 1), np.sqrt(1 - a**2))

    @property
    def kind(self) -> tuple[bool, bool, bool]:
        """Over decades, between neighbours, smooth."""
        return self.decades > 0, self.neighbours > 0, self.smooth

    def __str__(self) -> str:
        if self.decades:
            return f"over {self.decades:g} decades"
        again = ", smooth" if self.smooth else ""
        return f"{self.neighbours:g} between neighbours{again}" if self.neighbours else "none"


def smooth_lags(a: float, n: int) -> Lags:
    """Of an autoregression whose white noise is an autoregression with the same a.

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
    """One description of the noise.

    Attributes:
        profile: reported (the errors, smoothed), even (the same everywhere), proportional (to the
            values), power (of the step) or local (of the data).
        s: (S, n) profile of the scatter of each signal, in nats.
        reported: (S,) true where s may be taken at its word: φ is then likely near 1.
        correlation: How neighbours agree.
        lags: The same as numbers.
        profile_cost: What the profile must earn, in log-likelihood units.
    """

    profile: str
    s: np.ndarray
    reported: np.ndarray
    correlation: Correlation
    lags: Lags
    profile_cost: float = 0.0

    def whiten(self, values: np.ndarray) -> np.ndarray:
        """(S, n) or (S, n, m) values with white noise of size φ."""
        return np.stack([whiten(v, s, self.lags) for v, s in zip(values, self.s, strict=True)])

    @property
    def cost(self) -> float:
        """What this description must earn, in log-likelihood units."""
        c = self.correlation
        known = SMOOTH if c.smooth else NEIGHBOURS
        return self.profile_cost + LENGTHS.get(c.decades, 0.0) + known.get(c.neighbours, 0.0)

    @property
    def log_determinant(self) -> float:
        """log det of the covariance at φ = 1, summed over signals."""
        correlation = 2 * float(np.log(self.lags.sd).sum())
        return len(self.s) * correlation + 2 * float(np.log(self.s).sum())


def whiten(values: np.ndarray, s: np.ndarray, lags: Lags) -> np.ndarray:
    """Makes the noise white.

    Rows are (z_i − one_i z_{i−1} − two_i z_{i−2}) / sd_i with z = v/s.

    Args:
        values: (n,) or (n, m).
        s: (n,) scatter.
        lags: How neighbours agree.
    """
    z = values.T / s
    out = z.copy()
    out[..., 1:] -= lags.one * z[..., :-1]
    out[..., 2:] -= lags.two[1:] * z[..., :-2]
    out[..., 1:] /= lags.sd
    return out.T


def colour(white: np.ndarray, s: np.ndarray, lags: Lags) -> np.ndarray:
    """The inverse of `whiten` for (n, m)."""
    z = white.copy()
    for i, (one, two, sd) in enumerate(zip(lags.one, lags.two, lags.sd, strict=True), 1):
        z[i] = one * z[i - 1] + two * z[i - 2] + sd * white[i]
    return (z.T * s).T


def correlations(x: np.ndarray) -> Iterator[Correlation]:
    """The correlations that a trajectory may have."""
    yield Correlation()
    yield from (Correlation(decades=length) for length in LENGTHS)
    most = np.exp(-REACH / len(x))
    yield from (Correlation(neighbours=a) for a in NEIGHBOURS if a <= most)
    yield from (Correlation(neighbours=a, smooth=True) for a in SMOOTH if a <= most)


def profiles(trajectory: Trajectory) -> Iterator[tuple[str, np.ndarray, np.ndarray, float]]:
    """Name, s (S, n), which of its signals are as reported (S,), and cost of each profile."""
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
    """Each standard error drawn towards its running median.

    Those of few chains are uncertain by tens of per cent.
    """
    windows = sliding_window_view(np.pad(np.log(se), 3, mode="reflect"), 7)
    return np.exp((np.log(se) + 3 * np.median(windows, -1)) / 4)


def shape_share(trajectory: Trajectory) -> float:
    """Standard error of the shape, as a share of the reported one, from what chains share.

    Each chain is compared with the mean of all. A constant and a slope over x are the chain's own
    at all checkpoints, and say nothing of the shape; what is left is the scatter of the shape. 1
    where the chains are not known.
    """
    apart = chain_departures(trajectory)
    if apart is None:
        return 1.0
    n, number = apart.shape
    relative = apart / trajectory.se[:, None]
    variance = (relative**2).sum(1) / ((number - 1) * number) * n / (n - 2)
    return float(np.sqrt(max(np.mean(variance), FINEST**2)))


def chain_departures(trajectory: Trajectory) -> np.ndarray | None:
    """(n, C) each chain less the mean of all, without its own constant and slope; None if unknown.

    Chains are unknown where fewer than three are told, or one failed.
    """
    chains = trajectory.chains
    if chains is None or chains.shape[1] < 3 or not np.isfinite(chains).all():
        return None
    base = np.stack([np.ones(len(trajectory)), trajectory.x], 1) / trajectory.se[:, None]
    apart = (chains - chains.mean(1, keepdims=True)) / trajectory.se[:, None]
    own = base @ np.linalg.lstsq(base, apart, rcond=None)[0]
    return (apart - own) * trajectory.se[:, None]


def local_scatter(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """(n,) scatter about the line between both neighbours, over a tenth of the points."""
    share = (x[1:-1] - x[:-2]) / (x[2:] - x[:-2])
    off = y[1:-1] - y[:-2] - share * (y[2:] - y[:-2])
    off = np.abs(off) / np.sqrt(1 + share**2 + (1 - share) ** 2)
    half = len(x) // (2 * LOCAL_WINDOWS)
    windows = sliding_window_view(np.pad(off, half + 1, mode="reflect"), 2 * half + 1)
    return np.maximum(1.4826 * np.median(windows, -1), finest(y))


def power_of_step(x: np.ndarray, scatter: np.ndarray) -> np.ndarray:
    """(n,) the power of the step that is nearest to a scatter, over x = log10(step)."""
    base = np.stack([np.ones_like(x), x], 1)
    return np.exp(base @ np.linalg.lstsq(base, np.log(scatter), rcond=None)[0])


def levels(y: np.ndarray) -> np.ndarray:
    """(n,) running mean of the size of values y, and a floor: what a relative error goes with."""
    half = max(3, len(y) // (2 * LOCAL_WINDOWS))
    windows = sliding_window_view(np.pad(np.abs(y), half, mode="reflect"), 2 * half + 1)
    size = windows.mean(-1)
    return size + FLOOR_SHARE * max(float(size.max()), finest(y))


def typical_scatter(y: np.ndarray) -> float:
    """Scatter of a signal that tells no errors: 1.4826 · MAD / sqrt(6) of second differences."""
    second = np.diff(y, 2)
    return max(1.4826 * float(np.median(np.abs(second))) / np.sqrt(6), finest(y))


def finest(y: np.ndarray) -> float:
    """The least scatter that is believed of values y."""
    return max(FINEST * float(np.ptp(y)), 1e-9 * float(np.abs(y).max()), LEAST)
