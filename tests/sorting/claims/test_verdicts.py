"""The rules.

On samples whose verdict is known, and the intervals against scipy and against simulation.
"""

import numpy as np
import pytest
from scipy import stats

from devsort.sorting.claims.verdicts import (
    FEWEST,
    bootstrap,
    majority,
    positive,
    rank_correlation,
    three,
)


@pytest.mark.parametrize(
    ("hits", "n", "verdict"),
    [(16, 16, "holds"), (12, 16, "holds"), (11, 16, "undecided"), (8, 16, "undecided"),
     (3, 16, "fails"), (4, 4, "holds"), (3, 4, "undecided"), (3, 3, "undecided"),
     (0, 4, "fails"), (0, 0, "undecided")],
)  # fmt: skip
def test_a_majority_is_decided_by_wilsons_interval(hits, n, verdict):
    claim = majority("x", "claim", "share", [True] * hits + [False] * (n - hits))
    assert (claim.n, claim.verdict) == (n, verdict)
    if n:
        z, p = stats.norm.ppf(0.975), hits / n  # Wilson 1927, written out
        centre, half = p + z**2 / (2 * n), z * np.sqrt(p * (1 - p) / n + z**2 / (4 * n**2))
        assert claim.ci95 == pytest.approx(
            ((centre - half) / (1 + z**2 / n), (centre + half) / (1 + z**2 / n))
        )


@pytest.mark.parametrize(
    ("centre", "n", "verdict"),
    [
        (1.0, 16, "holds"),
        (-1.0, 16, "fails"),
        (0.0, 16, "undecided"),
        (1.0, FEWEST - 1, "undecided"),
    ],
)
def test_a_mean_is_positive_negative_or_undecided(centre, n, verdict):
    values = centre + 0.3 * stats.norm.ppf((np.arange(n) + 0.5) / n)
    assert positive("x", "claim", "mean", values).verdict == verdict


@pytest.mark.parametrize(
    ("values", "verdict"),
    [([3] * 16, "holds"), ([3] * 15 + [4], "holds"), ([5, 6] * 8, "fails"), ([1, 2] * 8, "fails"),
     ([2, 5] * 8, "undecided"), ([3] * 4, "undecided"), ([], "undecided")],
)  # fmt: skip
def test_three_is_three_to_within_a_half(values, verdict):
    assert three("x", "claim", "stages", values).verdict == verdict


def test_the_bootstrap_interval_covers_nearly_as_often_as_it_says():
    """16 normal values.

    The percentile bootstrap is known to be narrow by sqrt(15/16) and the t quantile.
    """
    rng = np.random.default_rng(0)
    samples = rng.standard_normal((400, 16))
    covered = sum(
        low <= 0 <= high for low, high in (bootstrap(str(i), x)[1] for i, x in enumerate(samples))
    )
    assert 0.88 < covered / 400 < 0.97


def test_the_bootstrap_of_too_little():
    assert bootstrap("x", []) == (None, None) and bootstrap("x", [2.0]) == (2.0, None)
    assert bootstrap("x", [1.0, 1.0, 1.0]) == (1.0, (1.0, 1.0))


def test_the_rank_correlation_and_its_p_are_scipys():
    rng = np.random.default_rng(1)
    x = rng.integers(0, 4, 30).astype(float)
    y = x + rng.standard_normal(30)
    rho, (low, high), p = rank_correlation(x, y)
    assert rho == pytest.approx(stats.spearmanr(x, y).statistic) and low < rho < high
    weak = 0.25 * x + rng.standard_normal(30)
    exact = stats.permutation_test(
        (weak,),
        lambda w: stats.spearmanr(x, w).statistic,
        permutation_type="pairings",
        n_resamples=999,
        rng=0,
    )
    assert p < 0.001 and rank_correlation(x, weak)[2] == pytest.approx(exact.pvalue, abs=0.05)


@pytest.mark.parametrize(("hits", "n", "needed"), [(3, 4, 14), (10, 16, 61), (8, 16, None)])
def test_how_many_runs_would_decide_a_majority(hits, n, needed):
    found = majority("x", "", "", [True] * hits + [False] * (n - hits)).needed
    assert (found is None) == (needed is None)
    if needed:
        same = round(hits / n * found)
        assert majority("x", "", "", [True] * same + [False] * (found - same)).verdict == "holds"
        less = round(hits / n * (found - 1))
        before = majority("x", "", "", [True] * less + [False] * (found - 1 - less))
        assert found - 1 == n or before.verdict == "undecided"


def test_how_many_runs_would_decide_a_mean():
    values = [1.0, -1.0, 2.0, -1.0] * 4  # mean 1/4, standard deviation 1.34
    needed = positive("x", "", "", values).needed
    assert needed == int(np.ceil((1.96 * np.std(values, ddof=1) / 0.25) ** 2))
    assert positive("x", "", "", [1.0] * 15 + [1.1]).needed is None
