"""What a study can decide, before it runs: rule, number of runs, and power of each claim.

Power is the probability of the right verdict if the effect is as large as in the rule's example:

| rule        | example                                     |
|-------------|---------------------------------------------|
| majority    | 9 of 10 networks                            |
| positive    | a mean of one standard deviation            |
| three       | a mean of 3, a standard deviation of 1/2    |
| association | ρ = 0.6, at p < 0.01                        |
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import stats

from devsort.sorting.claims.verdicts import FEWEST, SIGNIFICANT, wilson

SHARE, RHO = 0.9, 0.6


@dataclass(frozen=True)
class Design:
    """The cells of a study that decide a claim.

    Attributes:
        rule: Name of the rule, see `verdicts`.
        groups: Groups of the study.
        values: Settings (key, value) that a cell of these groups must have.
    """

    rule: str
    groups: tuple[str, ...]
    values: tuple[tuple[str, float], ...] = ()


MAIN, GAPS = ("decay", "no-decay"), ("decay", "gap")
PLAN = {
    "a1": Design("majority", ("decay",)),
    **{f"a{i}": Design("positive", ("decay",)) for i in (2, 3, 4, 5)},
    **{f"b{i}": Design("majority", (name,)) for i, name in enumerate(MAIN, 1)},
    "c1": Design("positive", ("decay",)),
    **{f"c{i}": Design("positive", (name,)) for i, name in enumerate(MAIN, 2)},
    "d1": Design("majority", ("no-norm",)),
    "d2": Design("majority", ("neither",)),
    "e1": Design("majority", ("heads",), (("model.heads", 1),)),
    "e2": Design("majority", ("decay",)),
    **{f"e{n}": Design("majority", ("heads",), (("model.heads", n),)) for n in (3, 4)},
    "f1": Design("association", GAPS),
    "f2": Design("association", ("decay", "length")),
    "f3": Design("association", ("decay", "range")),
    "g1": Design("majority", ("more-noise",), (("task.label_noise", 0.05),)),
    "g2": Design("majority", ("noise",)),
    "g3": Design("majority", ("more-noise",), (("task.label_noise", 0.2),)),
    "i1": Design("three", ("decay",)),
    "i2": Design("majority", ("decay",)),
    "j1": Design("majority", ("decay",)),
    "j2": Design("majority", ("no-decay",)),
    "j3": Design("majority", ("challenge",)),
    "k": Design("positive", ("data",)),
}


def planned(
    cells: Sequence[tuple[str, Mapping[str, Any]]],
) -> Iterator[tuple[str, str, int, float]]:
    """Key, rule, number of runs and power of each claim that is decided by the runs of a study.

    Args:
        cells: The group of each cell, and the values of the keys that it changes.
    """
    for key, design in PLAN.items():
        n = sum(
            group in design.groups
            and all(values.get(name) == value for name, value in design.values)
            for group, values in cells
        )
        yield key, design.rule, n, power(design.rule, n)


def power(rule: str, n: int) -> float:
    """Probability that n runs decide a claim whose effect is the example of the rule."""
    if rule == "majority":
        hits = np.arange(n + 1)
        decisive = [n > 0 and wilson(int(k), n)[0] > 0.5 for k in hits]
        return float(stats.binom.pmf(hits, n, SHARE)[decisive].sum())
    if n < FEWEST:
        return 0.0
    if rule == "association":
        reach = np.sqrt(n - 3) * np.arctanh(RHO) - stats.norm.ppf(1 - SIGNIFICANT / 2)
        return float(stats.norm.cdf(reach))
    if rule == "three":  # half a segment, one standard deviation, on either side
        return float(max(0.0, 2 * stats.norm.cdf(np.sqrt(n) - stats.norm.ppf(0.975)) - 1))
    bar = stats.t.ppf(0.975, n - 1)
    return float(1 - stats.nct.cdf(bar, n - 1, np.sqrt(n)))
