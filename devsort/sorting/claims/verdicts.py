"""The three rules that decide a claim, fixed before any data are seen.

| rule     | 95 % interval                     | holds            | fails            |
|----------|-----------------------------------|------------------|------------------|
| majority | of a share of runs, Wilson        | all above 1/2    | all below        |
| positive | of a mean over runs, by bootstrap | all above 0      | all below        |
| three    | of a mean over runs, by bootstrap | within 3 ± 1/2   | outside of it    |

Otherwise the claim is undecided; `needed` runs would decide it if the estimate and the spread
between runs stay the same. Bootstrap intervals of fewer than FEWEST runs are too narrow and decide
nothing. A majority needs at least four runs, which must then all agree.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import binomtest, norm, rankdata

from devsort.rng import name_key, stream

FEWEST = 8  # runs that a bootstrap needs to decide
SIGNIFICANT = 0.01  # p below which an association holds
RESAMPLES = 9999
MOST = 1000  # largest number of needed runs that is reported
Z = float(norm.ppf(0.975))


@dataclass(frozen=True)
class Claim:
    """One row of the table.

    Attributes:
        key: Letter of the claim, and a number if it has several parts.
        claim: What is claimed.
        measured: What was measured, with its unit.
        rule: The rule that decides.
        n: Number of runs, or of events.
        estimate: Estimate of `measured`; None without data.
        ci95: Its 95 % interval; None if there is none.
        verdict: holds, fails or undecided.
        detail: More figures, in words.
        needed: Runs that would decide an undecided claim; None if it is decided or has no data, or
            if more than MOST runs would be needed.
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
    needed: int | None = None


def majority(key: str, claim: str, measured: str, hits: Sequence[bool], detail: str = "") -> Claim:
    """A claim about most runs; see the rules above."""
    hits = [bool(h) for h in hits]
    if not hits:
        return Claim(key, claim, measured, "majority", 0)
    n, share = len(hits), np.mean(hits).item()
    low, high = wilson(sum(hits), n)
    verdict = "holds" if low > 0.5 else "fails" if high < 0.5 else "undecided"
    needed = _for_majority(share, n) if verdict == "undecided" else None
    return Claim(key, claim, measured, "majority", n, share, (low, high), verdict, detail, needed)


def wilson(hits: int, n: int) -> tuple[float, float]:
    """Wilson's 95 % interval of a share."""
    interval = binomtest(hits, n).proportion_ci(0.95, "wilson")
    return interval.low, interval.high


def _for_majority(share: float, n: int) -> int | None:
    """The fewest runs, more than n, at which the interval of the same share excludes one half."""
    sizes = np.arange(n + 1, MOST + 1)
    hits = np.round(share * sizes)
    half = Z / np.sqrt(sizes + Z**2) / 2  # of Wilson's test against one half
    decisive = np.abs(hits / sizes - 0.5) > half * np.sqrt(1 + Z**2 / sizes)
    return int(sizes[decisive][0]) if decisive.any() else None


def _for_mean(values: Sequence[float], margin: float) -> int | None:
    """The fewest runs at which the interval's half-width is below `margin`."""
    if len(values) < 2 or margin <= 0:
        return None
    n = max(FEWEST, len(values) + 1, int(np.ceil((Z * np.std(values, ddof=1) / margin) ** 2)))
    return n if n <= MOST else None


def positive(
    key: str, claim: str, measured: str, values: Sequence[float], detail: str = ""
) -> Claim:
    """A claim that a mean lies above zero; see the rules above."""
    estimate, ci = bootstrap(key, values)
    verdict = "undecided"
    if ci and len(values) >= FEWEST:
        verdict = "holds" if ci[0] > 0 else "fails" if ci[1] < 0 else "undecided"
    needed = _for_mean(values, abs(estimate)) if ci and verdict == "undecided" else None
    return Claim(
        key, claim, measured, "positive", len(values), estimate, ci, verdict, detail, needed
    )


def three(key: str, claim: str, measured: str, values: Sequence[float], detail: str = "") -> Claim:
    """A claim that a mean is three; see the rules above."""
    estimate, ci = bootstrap(key, values)
    verdict = "undecided"
    if ci and len(values) >= FEWEST:
        inside, outside = ci[0] >= 2.5 and ci[1] <= 3.5, ci[1] < 2.5 or ci[0] > 3.5
        verdict = "holds" if inside else "fails" if outside else "undecided"
    margin = abs(abs(estimate - 3) - 0.5) if ci else 0.0
    needed = _for_mean(values, margin) if ci and verdict == "undecided" else None
    return Claim(key, claim, measured, "three", len(values), estimate, ci, verdict, detail, needed)


def bootstrap(key: str, values: Sequence[float]) -> tuple[float | None, tuple[float, float] | None]:
    """Mean and its percentile interval over resampled runs.

    The interval needs at least two values, and the mean at least one; otherwise they are None.
    """
    x = np.asarray(values, float)
    if len(x) < 2:
        return (float(x[0]) if len(x) else None), None
    means = x[stream(0, "claims", name_key(key)).integers(len(x), size=(RESAMPLES, len(x)))].mean(1)
    low, high = np.quantile(means, [0.025, 0.975])
    return float(x.mean()), (float(low), float(high))


def rank_correlation(
    x: np.ndarray, y: np.ndarray
) -> tuple[float, tuple[float, float] | None, float]:
    """Spearman's ρ, its percentile interval over resampled pairs, and its p over permutations.

    The two-sided p is (1 + #{|permuted ρ| ≥ |ρ|}) / (1 + RESAMPLES).
    """
    rng, n = stream(0, "claims", name_key("rank correlation")), len(x)
    rho = _correlation(rankdata(x), rankdata(y)).item()
    permuted = _correlation(rankdata(x), rng.permuted(np.tile(rankdata(y), (RESAMPLES, 1)), axis=1))
    index = rng.integers(n, size=(RESAMPLES, n))
    resampled = _correlation(rankdata(x[index], axis=1), rankdata(y[index], axis=1))
    finite = resampled[np.isfinite(resampled)]
    ci = tuple(np.quantile(finite, [0.025, 0.975]).tolist()) if len(finite) else None
    return rho, ci, (1 + int((np.abs(permuted) >= abs(rho) - 1e-12).sum())) / (1 + RESAMPLES)


def for_association(rho: float) -> int | None:
    """The fewest runs at which a rank correlation has p < SIGNIFICANT, by Fisher's z."""
    if not np.isfinite(rho) or abs(rho) < 1e-3:
        return None
    reach = norm.ppf(1 - SIGNIFICANT / 2) / np.arctanh(min(abs(rho), 0.999))
    n = max(FEWEST, int(np.ceil(reach**2)) + 3)
    return n if n <= MOST else None


def _correlation(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Pearson's correlation over the last axis; NaN where one side is constant."""
    x, y = (v - v.mean(-1, keepdims=True) for v in (x, y))
    with np.errstate(invalid="ignore"):
        return (x * y).sum(-1) / np.sqrt((x * x).sum(-1) * (y * y).sum(-1))
