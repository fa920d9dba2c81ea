"""The evidence against numerical integration over the size of the noise."""

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.stats import chi2 as chi2_law

from devsort.stages.evidence import PRIOR_POINTS, RANGE, Evidence


def likelihood(chi2, n, scale):
    return (2 * np.pi) ** (-n / 2) * scale**-n * np.exp(-chi2 / (2 * scale**2))


def evidence(n, reported):
    return Evidence(n, np.array([reported]), np.array([1e-9]))


@pytest.mark.parametrize("chi2", [2.0, 12.0, 300.0])
def test_an_unknown_size_is_integrated_over_its_logarithm(chi2):
    n = 12
    integral = quad(lambda u: likelihood(chi2, n, np.exp(u)) / RANGE, -5, 7, epsabs=0)[0]
    assert evidence(n, False)(np.array([chi2])) == pytest.approx(-2 * np.log(integral), rel=1e-6)


def test_reported_errors_are_a_prior_of_as_many_points():
    n, v, chi2 = 12, PRIOR_POINTS, 12.0

    def weighted(w):  # w = ν/φ² ~ χ²(ν)
        return likelihood(chi2, n, np.sqrt(v / w)) * chi2_law.pdf(w, v)

    expected = -2 * np.log(quad(weighted, 0, 100, epsabs=0)[0])
    assert evidence(n, True)(np.array([chi2])) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("wrong", [1 / 30, 30])
def test_errors_that_are_wrong_weigh_nothing(wrong):
    chi2 = np.array([40.0 / wrong**2])
    trusted, unknown = evidence(40, True), evidence(40, False)
    assert trusted(chi2) == unknown(chi2)
    assert trusted(np.array([40.0])) < unknown(np.array([40.0])) - 3
    assert trusted.scale(chi2, 4) == pytest.approx(np.sqrt(40 / 36) / wrong)


def test_signals_add_up_each_by_its_own_size():
    two = Evidence(20, np.array([True, False]), np.full(2, 1e-9))
    chi2 = np.array([[15.0, 4000.0], [20.0, 3000.0]])
    alone = [evidence(20, flag) for flag in (True, False)]
    expected = [sum(e(row[i : i + 1]) for i, e in enumerate(alone)) for row in chi2]
    assert two(chi2) == pytest.approx(expected)
