"""What a boundary is: segments with rates, and the joints between segments that differ."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from typing import Literal

import numpy as np

from devsort.stages import hinges
from devsort.stages.config import StagesConfig
from devsort.stages.fit import Fit, coefficients

Direction = Literal["rising", "falling", "flat"]
Draws = list[tuple[list[int], np.ndarray]]
INTERVAL = (0.025, 0.975)
INSIDE = 1e-9  # decades
# of logistic rises, in windows
CENTRES, WIDTHS = np.linspace(-0.25, 1.25, 31), (0.2, 0.23, 0.26, 0.3, 0.35, 0.4)
RATES = (*np.arange(-3, 0, 0.2), *np.arange(0.2, 3.2, 0.2))  # of exponential rises, per window


@dataclass(frozen=True)
class Boundary:
    """A boundary at 10**x steps with its 95 % interval, all in decades."""

    x: float
    low: float
    high: float


@dataclass(frozen=True)
class Segment:
    """What lies between two boundaries.

    Attributes:
        low: Start in decades.
        high: End in decades.
        rate: Nats per decade, mean over the segment.
        rate_ci: Its 95 % interval.
        start: Fitted value at the start, with its 95 % interval, in nats: (value, low, high).
        end: The same at the end.
        direction: rising or falling if the interval excludes 0, else flat.
    """

    low: float
    high: float
    rate: float
    rate_ci: tuple[float, float]
    start: tuple[float, float, float]
    end: tuple[float, float, float]
    direction: Direction


@dataclass(frozen=True)
class Stretches:
    """The stretches between some of the joints, and their resamples.

    Attributes:
        ends: (S, m, 2) fitted values at start and end.
        rate: (S, m) mean rate.
        end_draws: (B, S, m, 2).
        rate_draws: (B, S, m).
    """

    ends: np.ndarray
    rate: np.ndarray
    end_draws: np.ndarray
    rate_draws: np.ndarray

    @property
    def interval(self) -> np.ndarray:
        """(2, S, m) of the rates."""
        return np.quantile(self.rate_draws, INTERVAL, axis=0)

    def directions(self) -> np.ndarray:
        """(S, m) of −1, 0, 1."""
        low, high = self.interval
        return np.where(low > 0, 1, np.where(high < 0, -1, 0))


def boundary_joints(model: Fit, draws: Draws, config: StagesConfig) -> list[int]:
    """Which joints of the fit are boundaries, as ranks among the joints.

    The definition is in docs/stages.md.
    """
    kept = _without_bends(model, draws, list(range(len(model.chosen))), config)
    while kept:
        contrast = _contrasts(model, stretches(model, draws, kept), kept, config)
        weakest = int(np.argmin(contrast))
        if contrast[weakest] > 0:
            break
        kept = kept[:weakest] + kept[weakest + 1 :]
    return kept


def describe(
    model: Fit, draws: Draws, kept: list[int], config: StagesConfig
) -> tuple[list[Boundary], list[Segment]]:
    """Boundaries with intervals and segments with rates, for the joints that were kept."""
    where = np.array([model.candidates.position[chosen] for chosen, _ in draws])  # (B, k)
    boundaries = [_boundary(model, where[:, j], j, config) for j in kept]
    run = stretches(model, draws, kept)
    low, high = run.interval
    ends = np.stack([run.ends, *np.quantile(run.end_draws, INTERVAL, axis=0)], -1)[0]  # (m, 2, 3)
    names = {1: "rising", -1: "falling", 0: "flat"}
    edges = [float(model.x[0]), *(b.x for b in boundaries), float(model.x[-1])]
    segments = [
        Segment(
            edges[i], edges[i + 1], float(run.rate[0, i]), (float(low[0, i]), float(high[0, i])),
            tuple(map(float, ends[i, 0])), tuple(map(float, ends[i, 1])), names[d],
        )
        for i, d in enumerate(run.directions()[0])
    ]  # fmt: skip
    return boundaries, segments


def _boundary(model: Fit, draws: np.ndarray, j: int, config: StagesConfig) -> Boundary:
    x = float(model.position[j])
    low, high = x + config.widen * (np.quantile(draws, INTERVAL) - x)
    if model.jump[j]:  # it happened somewhere between two checkpoints
        i = int(np.searchsorted(model.x, x))
        low, high = min(low, model.x[i - 1]), max(high, model.x[i])
    half = (model.x[-1] - model.x[0]) / hinges.GRID / 2  # finer than the grid nothing is known
    return Boundary(x, float(min(low, x - half)), float(max(high, x + half)))


def stretches(model: Fit, draws: Draws, kept: list[int]) -> Stretches:
    """The stretches between the kept joints.

    Mean rate (f(b) − f(a)) / (b − a), jumps at the ends left out.
    """
    ends, width = _ends(model, model.chosen, coefficients(model, model.z, model.chosen), kept)
    drawn = [_ends(model, chosen, c, kept) for chosen, c in draws]
    rates = [np.diff(e, axis=-1)[..., 0] / w for e, w in drawn]
    return Stretches(
        ends,
        np.diff(ends, axis=-1)[..., 0] / width,
        np.stack([e for e, _ in drawn]),
        np.stack(rates),
    )


def _ends(
    model: Fit, chosen: list[int], coefficients: np.ndarray, kept: list[int]
) -> tuple[np.ndarray, np.ndarray]:
    """(S, m, 2) values at both ends of each stretch, just inside it, and (m,) widths in decades."""
    d = model.candidates
    position, jump = d.position[chosen], d.jump[chosen]
    edges = np.array([model.x[0], *position[kept], model.x[-1]])
    at = np.stack([edges[:-1] + INSIDE, edges[1:] - INSIDE], 1).ravel()  # (2m,)
    raw = np.concatenate([hinges.raw_base(at), hinges.raw_columns(at, position, jump)], 1)
    return (coefficients @ raw.T).reshape(len(coefficients), -1, 2), np.diff(edges)


def _contrasts(model: Fit, run: Stretches, kept: list[int], config: StagesConfig) -> np.ndarray:
    """(len(kept),) positive where the joint is a boundary; the least is dropped first."""
    sign, (low, high) = run.directions(), run.interval
    out = np.empty(len(kept))
    for i, j in enumerate(kept):
        differs = (sign[:, i] != sign[:, i + 1]) | model.jump[j]
        a, b = np.abs(run.rate[:, i]), np.abs(run.rate[:, i + 1])
        ratio = np.maximum(a, b) / np.maximum(np.minimum(a, b), 1e-12)
        apart = (low[:, i] > high[:, i + 1]) | (low[:, i + 1] > high[:, i])
        same = (
            (sign[:, i] == sign[:, i + 1])
            & (sign[:, i] != 0)
            & apart
            & (ratio >= config.rate_factor)
        )
        spread = (high - low)[:, i : i + 2].max(1)
        distance = np.abs(run.rate[:, i] - run.rate[:, i + 1]) / np.maximum(spread, 1e-12)
        out[i] = distance.max() if (differs | same).any() else distance.max() - 1e9
    return out


def _without_bends(model: Fit, draws: Draws, kept: list[int], config: StagesConfig) -> list[int]:
    """The joints that are kept: none if they only follow a smooth bend.

    That is, if the whole trajectory goes one way without a jump and a smooth curve explains it as
    well.
    """
    sign = stretches(model, draws, kept).directions()[0]
    one_way = not ((sign > 0).any() and (sign < 0).any())
    smooth = kept and one_way and not model.jump.any() and _smooth_is_as_good(model, kept, config)
    return [] if smooth else kept


def _smooth_is_as_good(model: Fit, inner: list[int], config: StagesConfig) -> bool:
    """Whether a smooth curve describes the trajectory as well as the joints `inner`, to a margin.

    Both pay log n for each parameter beyond a line's (the Bayesian information criterion); a joint
    has two.
    """
    x, cost = model.x, np.log(len(model.x)) * len(model.y)
    lines = np.concatenate(
        [hinges.raw_base(x), hinges.raw_columns(x, model.position[inner], model.jump[inner])], 1
    )
    kinked = _chi2(lines, model) + 2 * cost * len(inner)
    smooth = min(
        _chi2(c, model) + cost * more for c, more in _smooth_curves((x - x[0]) / (x[-1] - x[0]))
    )
    return smooth < kinked + config.bend_margin


def _smooth_curves(t: np.ndarray) -> Iterator[tuple[np.ndarray, int]]:
    """Columns of curves without a joint on 0…1, and their number of parameters beyond a line's."""
    one = np.ones_like(t)
    for degree in (2, 3):
        yield np.vander(t, degree + 1), degree - 1
    for rate in RATES:
        yield np.stack([one, np.exp(rate * t)], 1), 1
    for centre, width in product(CENTRES, WIDTHS):
        yield np.stack([one, 1 / (1 + np.exp(-(t - centre) / width))], 1), 2


def _chi2(columns: np.ndarray, model: Fit) -> float:
    """Residual sum of squares of all signals, in units of the estimated noise."""
    total = 0.0
    for y, s in zip(model.y, model.s, strict=True):
        white, z = (hinges.whiten(v, model.x, s, model.length) for v in (columns, y))
        residual = z - white @ np.linalg.lstsq(white, z, rcond=None)[0]
        total += float(residual @ residual)
    return total / model.scale**2
