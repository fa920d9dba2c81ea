"""Whitening, candidates and the search for joints, against loops and exhaustive search."""

import itertools

import numpy as np
import pytest

from devsort.stages import hinges

X = np.sort(np.random.default_rng(1).uniform(0, 4, 25))
S = np.random.default_rng(2).uniform(0.5, 2, 25)


@pytest.mark.parametrize("length", [0.0, 0.05, 0.4])
def test_whitening_inverts_the_covariance(length):
    distance = np.abs(X[:, None] - X)
    correlation = np.exp(-distance / length) if length else np.eye(25)
    w = hinges.whiten(np.eye(25), X, S, length)  # the whitening matrix
    assert np.allclose(w @ (S[:, None] * correlation * S) @ w.T, np.eye(25), atol=1e-8)
    assert hinges.log_determinant(X, length) == pytest.approx(
        np.linalg.slogdet(correlation)[1], abs=1e-8
    )
    values = np.random.default_rng(3).standard_normal((25, 3))
    assert np.allclose(hinges.colour(hinges.whiten(values, X, S, length), X, S, length), values)


def problem(signals=1, length=0.1):
    s = np.stack([S] * signals)
    d = hinges.dictionary(X, s, length, 3, (0.0, 0.0))
    z = np.random.default_rng(4).standard_normal((signals, 25))
    return d, z


@pytest.mark.parametrize("signals", [1, 2])
def test_the_gain_of_a_candidate_is_the_fall_of_chi2_in_a_loop(signals):
    d, z = problem(signals)
    chosen = [30]
    mask = hinges.allowed(d, chosen)
    j, gain = hinges.best_candidate(d, z, chosen, mask)
    falls = [
        hinges.chi2(d, z, chosen).sum() - hinges.chi2(d, z, [*chosen, i]).sum() if mask[i] else -1.0
        for i in range(len(d.position))
    ]
    assert gain == pytest.approx(max(falls), rel=1e-6) and falls[j] == pytest.approx(
        max(falls), rel=1e-6
    )


def test_the_path_finds_the_best_pair_of_an_exhaustive_search_on_a_clear_curve():
    y = np.interp(X, [0, 1.2, 2.7, 4], [10, 10, 40, 20])
    d = hinges.dictionary(X, S[None], 0.0, 3, (0.0, 1e9))
    z = hinges.whiten(y, X, S, 0.0)[None]
    found = hinges.path(d, z, 2)[2]
    few = [j for j in range(0, len(d.position), 8) if not d.jump[j]]
    best = min(
        hinges.chi2(d, z, list(p)).sum()
        for p in itertools.combinations(few, 2)
        if hinges.allowed(d, [p[0]])[p[1]]
    )
    assert hinges.chi2(d, z, found).sum() <= best
    assert d.position[found] == pytest.approx([1.2, 2.7], abs=0.02)


def test_joints_keep_their_distance_in_points():
    d, z = problem()
    for chosen in hinges.path(d, z, 4):
        ranks = np.sort(d.rank[chosen])
        assert (np.diff(ranks) >= 3).all() and ((ranks >= 4) & (ranks <= 21)).all()


def test_spikes_take_points_out_and_are_few():
    d = hinges.dictionary(X, S[None], 0.1, 3, (5.0, 9.0, 12.0))
    spikes = np.flatnonzero(d.spike)
    assert d.rank[spikes].tolist() == list(range(25)) and set(d.cost[spikes]) == {12.0}
    z = np.random.default_rng(5).standard_normal((1, 25))
    index = np.delete(np.arange(25), 7)
    y = hinges.colour(z.T, X, S, 0.1)[:, 0]
    base = hinges.raw_base(X)[index]
    white, left = (
        hinges.whiten(v[index] if v is y else base, X[index], S[index], 0.1) for v in (y, base)
    )
    rest = white - left @ np.linalg.lstsq(left, white, rcond=None)[0]
    # as if the point were not there
    assert hinges.chi2(d, z, [spikes[7]]) == pytest.approx(rest @ rest)
    assert (
        hinges.allowed(d, [spikes[7]])[d.spike].all()
        and not hinges.allowed(d, spikes[:2].tolist())[d.spike].any()
    )
    assert hinges.allowed(d, [0])[d.spike].all() and not hinges.allowed(d, [0])[0]
