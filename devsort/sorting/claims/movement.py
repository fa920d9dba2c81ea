"""(a) What changes while the LLC falls: rates of order parameters compared with that of the LLC.

Two curves over x = log10(step) are compared by their rates: the correlation of −dλ̂/dx with ±dq/dx
from the LLC's peak to the end, once without a shift (this is the claim), and once shifted against
each other by up to LAG decades. The shift with the highest correlation is the lag; it is positive
if the order parameter changes after the LLC.

An LLC may fall, rise and fall again. The details of a claim repeat both numbers from the end of
that rise on (`later_peak`). They decide nothing: this window was added when twelve seeds had been
seen.
"""

from collections.abc import Callable, Iterator

import numpy as np
import pandas as pd

from devsort.sorting.claims.groups import of
from devsort.sorting.claims.verdicts import Claim, bootstrap, majority, positive

# standard errors by which the LLC must fall from its peak, which is the largest of many estimates
BEYOND = 3.0
STEP = 0.05  # decades between points at which rates are compared
LAG = 0.6  # decades, the largest shift
FEWEST_POINTS = 10  # in a window in which rates are compared
# column of a trajectory → the sign of its change as heads specialise, and that change in words
ORDER = {
    "split_score": (1, "the split score rises"),
    "suppression_score": (1, "the suppression score rises"),
    "residual_rank": (-1, "the rank of the residual stream falls"),
    "overlap_score": (-1, "the overlap score falls"),
}


def falls(runs: pd.DataFrame, points: pd.DataFrame) -> Iterator[Claim]:
    """(a) with decay the LLC falls as heads specialise."""
    group = of(runs, "decay")
    measured = f"share of seeds whose LLC ends {BEYOND:g} SE below its peak"
    hits = group.llc_fall > BEYOND * group.llc_fall_se
    yield majority("a1", "With weight decay the LLC falls", measured, hits)
    for number, (column, (sign, change)) in enumerate(ORDER.items(), 2):
        own = [points[points.cell == run.cell] for run in group.itertuples()]
        pairs = [pair for run in own if (pair := follow(run, column, sign))]
        later = [pair for run in own if (pair := follow(run, column, sign, later_peak))]
        lag = _about(f"lag {column}", "lag", [lag for _, lag in pairs], " decades")
        second = (
            _about(f"later {column}", "after the later rise: correlation", [r for r, _ in later]),
            _about(f"later lag {column}", "lag", [lag for _, lag in later], " decades"),
        )
        detail = "; ".join(filter(None, (lag, *second)))
        claim = f"While the LLC falls, {change} (decay)"
        rate = "correlation of their rates over log step, from the LLC's peak on"
        yield positive(f"a{number}", claim, rate, [rho for rho, _ in pairs], detail)


def _about(key: str, name: str, values: list[float], unit: str = "") -> str:
    """The mean of values over runs with its interval, in words; empty without an interval."""
    mean, ci = bootstrap(key, values)
    return "" if ci is None else f"{name} {mean:.2f}{unit} ({ci[0]:.2f} to {ci[1]:.2f})"


def peak(llc: np.ndarray) -> int:
    """Index of the highest LLC."""
    return int(llc.argmax())


def later_peak(llc: np.ndarray) -> int:
    """Index of the end of the largest rise after the highest LLC; of the end if there is none."""
    start = peak(llc)
    ends = np.maximum.accumulate(llc[:start:-1])[::-1]  # the highest LLC from each point on
    rises = ends - llc[start + 1 :]
    if not len(rises) or rises.max() <= 0:
        return len(llc) - 1
    trough = start + 1 + int(rises.argmax())
    return trough + int(llc[trough:].argmax())


def follow(
    own: pd.DataFrame, column: str, sign: int, begin: Callable[[np.ndarray], int] = peak
) -> tuple[float, float] | None:
    """Correlation of rates without a shift, and the lag in decades, of one run.

    None if the window, from the index that `begin` gives on, is too short, or if one of the two
    does not change.
    """
    own = own[own.llc.notna() & own[column].notna()] if column in own else own[:0]
    if own.empty:
        return None
    x = np.log10(own.step.to_numpy(float))
    start = x[begin(own.llc.to_numpy(float))]
    grid = np.arange(start, x[-1], STEP)
    if len(grid) < FEWEST_POINTS:
        return None
    fall = -np.gradient(np.interp(grid, x, own.llc.to_numpy(float)))
    wide = np.arange(start - LAG, x[-1] + LAG, STEP)
    rate = sign * np.gradient(np.interp(wide, x, own[column].to_numpy(float)))
    shifts = np.arange(len(wide) - len(grid) + 1)
    scores = [_correlation(fall, rate[s : s + len(grid)]) for s in shifts]
    unshifted = round(LAG / STEP)
    if not np.isfinite(scores[unshifted]):
        return None
    return scores[unshifted], (int(np.nanargmax(scores)) - unshifted) * STEP


def _correlation(a: np.ndarray, b: np.ndarray) -> float:
    a, b = a - a.mean(), b - b.mean()
    size = np.sqrt((a @ a) * (b @ b))
    return float(a @ b / size) if size > 1e-12 else float("nan")
