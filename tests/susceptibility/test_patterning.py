"""The shift of the data: exact where χ is known, held back where it is noise; its weights."""

import numpy as np
import pytest

from devsort.rng import stream
from devsort.susceptibility import Response
from devsort.susceptibility.patterning import Tilt, predicted, shift


def response(value, se=1e-9):
    value = np.asarray(value, float)
    return Response(value, np.full(value.shape, se), np.ones(value.shape), 6)


def test_the_shift_has_the_wanted_effect_and_no_other():
    chi = stream(0, "patterning").normal(size=(3, 8))
    h = shift(response(chi), np.array([1.0, 0.0, 0.0]))
    moved = chi @ h
    assert moved[0] > 0.1 and np.abs(moved[1:]).max() < 1e-9
    assert np.linalg.norm(h) == pytest.approx(1)
    # the smallest such shift lies in the span of the rows of χ
    rest = h - chi.T @ np.linalg.lstsq(chi.T, h, rcond=None)[0]
    assert np.abs(rest).max() < 1e-9


def test_units_of_an_observable_do_not_matter():
    chi = stream(1, "patterning").normal(size=(2, 6))
    wanted = np.array([1.0, 0.0])
    scaled = shift(response(chi * [[1e6], [1e-3]]), wanted)
    assert np.allclose(scaled, shift(response(chi), wanted), atol=1e-6)


def test_an_observable_that_is_noise_is_not_held_at_any_price():
    # the second row nearly repeats the first; what differs is within its error
    chi = np.array([[1.0, 0.5, 0.1], [1.0, 0.5, 0.11]])
    exact, noisy = (shift(response(chi, se), np.array([1.0, 0.0])) for se in (1e-9, 0.3))
    direct = chi[0] / np.linalg.norm(chi[0])
    assert abs(exact @ direct) < 0.2 < 0.95 < noisy @ direct


def test_weights_stay_within_bounds_and_have_the_size():
    rng = stream(2, "patterning")
    members = rng.random((500, 8)) < 0.3
    wide, cut = (Tilt.along(rng.normal(size=8), members, 0.5, b)(members) for b in (50.0, 1.5))
    assert wide.mean() == pytest.approx(1, abs=0.02) and wide.std() == pytest.approx(0.5, abs=0.02)
    assert (cut.min(), cut.max()) == (1 / 1.5, 1.5)
    assert (Tilt.along(np.zeros(8), members, 0.5, 3.0)(members) == 1).all()


def test_more_weight_goes_to_the_parts_of_the_shift():
    members = np.eye(4, dtype=bool).repeat(5, 0)
    found = Tilt.along(np.array([1.0, 0, 0, 0]), members, 0.4, 10.0)(members)
    assert found[:5].min() > 1 > found[5:].max()


def test_the_prediction_is_the_response_to_disjoint_parts():
    # parts that share the data out: L moves by Σ_x q_x (w_x − 1) (ℓ_x − L)
    chi = np.array([[2.0, -1.0, -1.0]])
    members = np.eye(3, dtype=bool).repeat([4, 8, 8], 0)
    weight = np.repeat([1.5, 0.75, 1.0], [4, 8, 8])
    share = np.array([0.2, 0.4, 0.4])
    truth = (chi * share * (np.array([1.5, 0.75, 1.0]) - 1)).sum()
    assert predicted(response(chi - chi @ share), members, weight)[0] == pytest.approx(truth)
