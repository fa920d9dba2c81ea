"""What decides a claim: three rules, stated before any data are seen.

| rule     | 95 % interval                     | holds            | fails            |
|----------|-----------------------------------|------------------|------------------|
| majority | of a share of runs, Wilson        | all above 1/2    | all below        |
| positive | of a mean over runs, by bootstrap | all above 0      | all below        |
| three    | of a mean over runs, by bootstrap | within 3 ± 1/2   | outside of it    |

Anything else is undecided. A bootstrap of fewer than FEWEST runs has intervals that are too narrow:
it decides nothing. For a majority four runs of four are the fewest that can decide.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import binomtest, rankdata

from devsort.rng import name_key, stream

FEWEST = 8  # runs of a bootstrap that decides
SIGNIFICANT = 0.01  # p below which an association holds
RESAMPLES = 9999


@dataclass(frozen=True)
class Claim:
    """One row of the table.

    Attributes:
        key: Letter of the claim, and a number where it has several parts.
        claim: What is claimed.
        measured: What was measured, with its unit.
        rule: What decides.
        n: Runs, or events.
        estimate: Of what was measured; None without data.
        ci95: Its interval; None where there is none.
        verdict: holds, fails or undecided.
        detail: More figures, in words.
    """

    key: str
    claim: str
    measured: str
    rule: str
    n: int
    estimate: float | None = None
    ci95: tuple[float, float] | None = None
    verdict: str = "undecided"
    detail: str = ""


def majority(key: str, claim: str, measured: str, hits: Sequence[bool], detail: str = "") -> Claim:
    """A claim on most runs; see the rules above."""
    hits = [bool(h) for h in hits]
    if not hits:
        return Claim(key, claim, measured, "majority", 0)
    ci = binomtest(sum(hits), len(hits)).proportion_ci(0.95, "wilson")
    verdict = "holds" if ci.low > 0.5 else "fails" if ci.high < 0.5 else "undecided"
    share = np.mean(hits).item()
    return Claim(key, claim, measured, "majority", len(hits), share, tuple(ci), verdict, detail)


def positive(
    key: str, claim: str, measured: str, values: Sequence[float], detail: str = ""
) -> Claim:
    """A claim that a mean lies above zero; see the rules above."""
    estimate, ci = bootstrap(key, values)
    verdict = "undecided"
    if ci and len(values) >= FEWEST:
        verdict = "holds" if ci[0] > 0 else "fails" if ci[1] < 0 else "undecided"
    return Claim(key, claim, measured, "positive", len(values), estimate, ci, verdict, detail)


def three(key: str, claim: str, measured: str, values: Sequence[float], detail: str = "") -> Claim:
    """A claim that a mean is three; see the rules above."""
    estimate, ci = bootstrap(key, values)
    verdict = "undecided"
    if ci and len(values) >= FEWEST:
        inside, outside = ci[0] >= 2.5 and ci[1] <= 3.5, ci[1] < 2.5 or ci[0] > 3.5
        verdict = "holds" if inside else "fails" if outside else "undecided"
    return Claim(key, claim, measured, "three", len(values), estimate, ci, verdict, detail)


def bootstrap(key: str, values: Sequence[float]) -> tuple[float | None, tuple[float, float] | None]:
    """Mean and its percentile interval over resampled runs.

    One value has no interval, and no value no mean.
    """
    x = np.asarray(values, float)
    if len(x) < 2:
        return (float(x[0]) if len(x) else None), None
    drawn = x[stream(0, "claims", name_key(key)).integers(len(x), size=(RESAMPLES, len(x)))].mean(1)
    low, high = np.quantile(drawn, [0.025, 0.975])
    return float(x.mean()), (float(low), float(high))


def rank_correlation(
    x: np.ndarray, y: np.ndarray
) -> tuple[float, tuple[float, float] | None, float]:
    """Spearman's ρ, its interval over resampled pairs, and its p over permutations.

    The interval is that of percentiles. The two-sided p is
    (1 + #{|permuted ρ| ≥ |ρ|}) / (1 + RESAMPLES).
    """
    rng, n = stream(0, "claims", name_key("rank correlation")), len(x)
    rho = _correlation(rankdata(x), rankdata(y)).item()
    permuted = _correlation(rankdata(x), rng.permuted(np.tile(rankdata(y), (RESAMPLES, 1)), axis=1))
    index = rng.integers(n, size=(RESAMPLES, n))
    drawn = _correlation(rankdata(x[index], axis=1), rankdata(y[index], axis=1))
    ci = tuple(np.nanquantile(drawn, [0.025, 0.975]).tolist())
    return rho, ci, (1 + int((np.abs(permuted) >= abs(rho) - 1e-12).sum())) / (1 + RESAMPLES)


def _correlation(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Pearson's correlation over the last axis; NaN where one side is constant."""
    x, y = (v - v.mean(-1, keepdims=True) for v in (x, y))
    with np.errstate(invalid="ignore"):
        return (x * y).sum(-1) / np.sqrt((x * x).sum(-1) * (y * y).sum(-1))
