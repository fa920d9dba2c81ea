"""Power of the rules against simulation, and the plan of the shipped study."""

from pathlib import Path

import numpy as np
import pytest

from devsort.rng import stream
from devsort.sorting.claims.plan import PLAN, planned, power
from devsort.sorting.claims.verdicts import majority
from devsort.sweep.study import read_study

STUDY = Path(__file__).parents[3] / "studies" / "paper.yaml"


@pytest.mark.parametrize("n", [4, 8, 16])
def test_the_power_of_a_majority_is_how_often_it_holds(n):
    rng = stream(0, "power")
    hits = rng.binomial(n, 0.9, 2000)
    held = [majority("x", "", "", [True] * k + [False] * (n - k)).verdict == "holds" for k in hits]
    assert power("majority", n) == pytest.approx(np.mean(held), abs=0.03)


def test_the_power_of_a_mean_is_how_often_it_is_significant():
    rng = stream(0, "power of a mean")
    x = rng.normal(1, 1, (4000, 8))
    t = x.mean(1) / (x.std(1, ddof=1) / 8**0.5)
    assert power("positive", 8) == pytest.approx(np.mean(t > 2.3646), abs=0.03)


def test_few_runs_have_no_power():
    rules = ("majority", "positive", "association", "three")
    assert [power(rule, 3) for rule in rules] == [0, 0, 0, 0]
    assert min(power(rule, 100) for rule in rules) > 0.99


def test_every_claim_of_the_shipped_study_has_its_cells():
    rows = list(planned([(cell.group, cell.values) for cell in read_study(STUDY).cells]))
    assert [key for key, *_ in rows] == list(PLAN)
    assert min(n for _, _, n, _ in rows) >= 4
    assert {n for key, _, n, _ in rows if key in ("a1", "b2", "c1", "i1", "j2")} == {16}
