"""How two measures of which head owns a number agree: over all numbers, and within an owner's.

A measure is positive (N,) where head 0 owns a number.
"""

import numpy as np
from scipy.stats import spearmanr

from devsort.rng import stream


def rank(a, b):
    return float(spearmanr(a, b)[0])


def repeats(halves):
    """Rank correlation of all chains with as many others, from halves (Spearman and Brown)."""
    pairs = zip(halves[::2], halves[1::2], strict=True)
    r = np.mean([rank(*pair) for pair in pairs])
    return float(2 * r / (1 + r))


def within(a, need):
    """Mean over owners, by their numbers, of the rank correlation among an owner's numbers."""
    owned = [chosen for chosen in (need > 0, need <= 0) if chosen.sum() > 2]
    counts = [chosen.sum() for chosen in owned]
    return float(np.average([rank(a[c], need[c]) for c in owned], weights=counts))


def order_free(a, need, times=200):
    """What the rank correlation would be if the order among an owner's numbers said nothing."""
    rng, found = stream(0, "susceptibility seeds"), []
    for _ in range(times):
        shuffled = need.copy()
        for chosen in (need > 0, need <= 0):
            shuffled[chosen] = rng.permutation(need[chosen])
        found.append(rank(a, shuffled))
    return float(np.mean(found))
