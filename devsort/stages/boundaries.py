"""Decides which joints of a fit are boundaries, and describes them; see docs/stages.md."""

from collections.abc import Callable, Iterator

import numpy as np

from devsort.stages.bends import smooth_is_as_good
from devsort.stages.config import StagesConfig
from devsort.stages.fit import Fit
from devsort.stages.joints import GRID
from devsort.stages.resample import Draws
from devsort.stages.segments import (
    INTERVAL,
    Boundary,
    Corner,
    Direction,
    Segment,
    Stretches,
    stretches,
)

# a stretch may be part of a round corner if it is shorter than this fraction of both neighbours, or
# than this many decades
ROUND, ROUND_DECADES = 0.5, 0.1
NORMAL95 = 1.96
NEAR = 0.05  # decades around the interval of a boundary within which a joint counts as the same


def boundary_joints(model: Fit, draws: Draws, config: StagesConfig) -> list[Corner]:
    """Returns the corners that are boundaries."""
    corners: list[Corner] = [(j,) for j in range(len(model.chosen))]
    steps: list[Callable] = [
        _without_one_bend,
        _contrasting,
        _rounded,
        _without_bends,
        _contrasting,
    ]
    for step in steps:
        corners = step(model, draws, corners, config)
    return corners


def describe(
    model: Fit, draws: Draws, corners: list[Corner], config: StagesConfig
) -> tuple[list[Boundary], list[Segment]]:
    """Returns boundaries with intervals and segments with rates, for the given corners."""
    run = stretches(model, draws, corners)
    leaps = run.ends[0, 1:, 0] - run.ends[0, :-1, 1]  # (k,)
    places = zip(corners, run.edges[1:-1], run.edge_draws[:, 1:-1].T, leaps, strict=True)
    return [_boundary(model, draws, config, *place) for place in places], _segments(model, run)


def _segments(model: Fit, run: Stretches) -> list[Segment]:
    low, high = run.interval[:, 0]
    samples = run.end_draws[:, 0]  # (B, m, 2)
    ends = np.stack([run.ends[0], *_widened(model, run.ends[0], samples)], -1)  # (m, 2, 3)
    names: dict[int, Direction] = {1: "rising", -1: "falling", 0: "flat"}
    return [
        Segment(
            float(run.edges[i]), float(run.edges[i + 1]),
            float(run.rate[0, i]), (float(low[i]), float(high[i])),
            _three(ends[i, 0]), _three(ends[i, 1]), names[d],
            run.edge_draws[:, i : i + 2], np.diff(samples[:, i])[:, 0],
        )
        for i, d in enumerate(run.directions()[0])
    ]  # fmt: skip


def _three(values: np.ndarray) -> tuple[float, float, float]:
    value, low, high = map(float, values)
    return value, low, high


def _widened(model: Fit, ends: np.ndarray, samples: np.ndarray) -> np.ndarray:
    """Returns the 95 % intervals (2, m, 2) of values, with the error common to all checkpoints."""
    low, high = np.quantile(samples, INTERVAL, axis=0)
    level = NORMAL95 * model.level
    return np.stack([ends - np.hypot(ends - low, level), ends + np.hypot(high - ends, level)])


def _boundary(
    model: Fit,
    draws: Draws,
    config: StagesConfig,
    corner: Corner,
    x: float,
    where: np.ndarray,
    leap: float,
) -> Boundary:
    """Returns a corner as a boundary, with its 95 % interval and its sensitivity to the penalty.

    Args:
        model: The fit.
        draws: The resamples of the fit.
        config: Penalties and the factor on the interval.
        corner: Ranks of the joints of the corner.
        x: Position of the corner, in decades.
        where: (B,) its position in the resamples.
        leap: Value after it minus the value before it, in nats.
    """
    members = list(corner)
    jump = model.jump[members].any()
    half = (model.x[-1] - model.x[0]) / GRID / 2  # the resolution of the grid
    first, last = model.position[members][[0, -1]] + [-half, half]
    low, high = x + config.widen * (np.quantile(where, INTERVAL) - x)
    if jump:  # it can be anywhere between two checkpoints
        i = int(np.searchsorted(model.x, x))
        first, last = min(first, model.x[i - 1]), max(last, model.x[i])
    low, high = float(min(low, first)), float(max(high, last))
    cost = model.joints.cost[model.chosen][members]
    present = float((draws.worth[:, members] >= cost).any(1).mean())
    gone = vanishing(model, low - NEAR, high + NEAR, config)
    return Boundary(float(x), low, high, present, gone, float(leap) if jump else None)


def vanishing(model: Fit, low: float, high: float, config: StagesConfig) -> float:
    """Returns the penalty up to which the best set of joints has one between low and high.

    `jump_penalty` grows in proportion.
    """
    joints, target = model.joints, model.target
    position = [joints.position[chosen] for chosen in model.sets]
    there = np.array([((p >= low) & (p <= high)).any() for p in position])
    plain = np.array([float(target.evidence(target.chi2(chosen))) for chosen in model.sets])
    cost = np.array([float(joints.cost[chosen].sum()) for chosen in model.sets])
    factor = np.geomspace(1, 1e4, 400)
    best = np.argmin(plain + factor[:, None] * cost, 1)
    return float(config.penalty * factor[there[best]].max(initial=1.0))


def _contrasting(
    model: Fit, draws: Draws, corners: list[Corner], config: StagesConfig
) -> list[Corner]:
    """Removes the corner whose sides differ least, until both sides differ at every corner."""
    while corners:
        contrast = _contrasts(model, stretches(model, draws, corners), corners, config)
        weakest = int(np.argmin(contrast))
        if contrast[weakest] > 0:
            break
        corners = corners[:weakest] + corners[weakest + 1 :]
    return corners


def _contrasts(
    model: Fit, run: Stretches, corners: list[Corner], config: StagesConfig
) -> np.ndarray:
    """Returns (k,) values that are positive for boundaries; the smallest is removed first."""
    sign, (low, high) = run.directions(), run.interval
    left, right = slice(None, -1), slice(1, None)
    size = np.abs(run.rate)
    larger, smaller = (f(size[:, left], size[:, right]) for f in (np.maximum, np.minimum))
    apart = (low[:, left] > high[:, right]) | (low[:, right] > high[:, left])
    turns = sign[:, left] != sign[:, right]
    slows = ~turns & (sign[:, left] != 0) & apart & (larger >= config.rate_factor * smaller)
    jumps = np.array([model.jump[list(corner)].any() for corner in corners])
    spread = np.maximum((high - low)[:, left], (high - low)[:, right])
    distance = np.abs(np.diff(run.rate)) / np.maximum(spread, 1e-12)
    return np.where((turns | slows | jumps).any(0), 0.0, -1e9) + distance.max(0)


def _rounded(model: Fit, draws: Draws, corners: list[Corner], config: StagesConfig) -> list[Corner]:
    """Combines two corners into one round corner if the curve turns gradually between them.

    This is so if the stretch between them is shorter than `ROUND` times each of its neighbours, or
    than `ROUND_DECADES`, and its rate lies between theirs.
    """
    while True:
        run = stretches(model, draws, corners)
        width, rate = np.diff(run.edges), run.rate[0]
        gradual = (rate[:-2] - rate[1:-1]) * (rate[1:-1] - rate[2:]) > 0
        enough = np.maximum(ROUND * np.minimum(width[:-2], width[2:]), ROUND_DECADES)
        share = width[1:-1] / enough
        jumps = np.array([model.jump[list(c)].any() for c in corners], bool)
        share = np.where(gradual & ~jumps[:-1] & ~jumps[1:], share, np.inf)
        if not len(share) or share.min() >= 1:
            return corners
        i = int(np.argmin(share))
        corners = [*corners[:i], corners[i] + corners[i + 1], *corners[i + 2 :]]


def _without_one_bend(
    model: Fit, draws: Draws, corners: list[Corner], config: StagesConfig
) -> list[Corner]:
    """Removes all corners if the whole trajectory is monotonic and follows a smooth curve."""
    sign = stretches(model, draws, corners).directions()[0]
    one_way = not ((sign > 0).any() and (sign < 0).any())
    if not corners or not one_way or model.jump.any():
        return corners
    joints = [j for corner in corners for j in corner]
    smooth = smooth_is_as_good(model, joints, model.x[0], model.x[-1], config.bend_margin)
    return [] if smooth else corners


def _without_bends(
    model: Fit, draws: Draws, corners: list[Corner], config: StagesConfig
) -> list[Corner]:
    """Removes the corners within a rise or fall that a smooth curve describes equally well."""
    run = stretches(model, draws, corners)
    remaining = list(corners)
    for first, last in _one_way_runs(model, run.directions()[0], corners):
        inner = corners[first:last]
        after = corners[first - 1][-1] + 1 if first else 0
        before = corners[last][0] if last < len(corners) else len(model.chosen)
        joints = list(range(after, before))
        if smooth_is_as_good(model, joints, run.edges[first], run.edges[last + 1], 0.0):
            remaining = [corner for corner in remaining if corner not in inner]
    return remaining


def _one_way_runs(model: Fit, sign: np.ndarray, corners: list[Corner]) -> Iterator[tuple[int, int]]:
    """Yields the first and last stretch of each monotonic run of two or more, without a jump."""
    first = 0
    for i in range(1, len(sign) + 1):
        goes_on = (
            i < len(sign)
            and sign[i] == sign[first] != 0
            and not model.jump[list(corners[i - 1])].any()
        )
        if not goes_on:
            if i - 1 > first:
                yield first, i - 1
            first = i
