"""Is every one of some outcomes equally likely?"""

import numpy as np
from scipy import stats

# p-value below which a chi-squared test fails; seeds are fixed, so it fails always or never
REJECT = 1e-3


def p_value(outcomes: np.ndarray, expected: list) -> float:
    """Chi-squared p-value of "every one of `expected` is equally likely".

    0 if anything else occurs.
    """
    values, counts = np.unique(outcomes, axis=0, return_counts=True)
    count = {tuple(np.atleast_1d(v).tolist()): int(c) for v, c in zip(values, counts, strict=True)}
    observed = [count.pop(tuple(np.atleast_1d(e).tolist()), 0) for e in expected]
    return 0.0 if count else float(stats.chisquare(observed).pvalue)
