"""Candidates and the search for joints, against loops and exhaustive search."""

import itertools
from types import SimpleNamespace

import numpy as np
import pytest

from devsort.stages import search
from devsort.stages.config import StagesConfig
from devsort.stages.evidence import Evidence
from devsort.stages.joints import Joints, allowed, candidates, costs
from devsort.stages.noise import Correlation, Noise
from devsort.stages.settle import settled

X = np.sort(np.random.default_rng(1).uniform(0, 4, 25))
S = np.random.default_rng(2).uniform(0.5, 2, 25)
CONFIG = StagesConfig(min_points=3)
FREE = StagesConfig(penalty=1e-9, jump_penalty=1e-9, min_points=3)


def problem(signals=1, length=0.1, config=FREE, spikes=False, y=None):
    correlation = Correlation(decades=length)
    s = np.stack([S] * signals)
    noise = Noise("even", s, np.zeros(signals, bool), correlation, correlation.lags(X))
    y = np.random.default_rng(4).standard_normal((signals, 25)) if y is None else y
    joints = candidates(X, y, noise, config, spikes)
    evidence = Evidence(25, noise.reported, np.full(signals, 1e-9))
    return search.target_of(joints, noise.whiten(y), evidence), noise, y


def chi2_of(noise, y, columns):
    """Residual sum of squares of each signal by least squares on raw columns."""
    found = []
    covariance = noise.s[0][:, None] * np.exp(-np.abs(X[:, None] - X) / 0.1) * noise.s[0]
    inverse = np.linalg.inv(covariance)
    for one in y:
        b = np.linalg.solve(columns.T @ inverse @ columns, columns.T @ inverse @ one)
        rest = one - columns @ b
        found.append(rest @ inverse @ rest)
    return np.array(found)


def raw(joints, chosen):
    columns = [np.ones(25), X]
    for j in chosen:
        if joints.spike[j]:
            columns.append(np.eye(25)[joints.rank[j]])
        elif joints.jump[j]:
            columns.append((joints.position[j] < X).astype(float))
        else:
            columns.append(np.maximum(X - joints.position[j], 0))
    return np.stack(columns, 1)


@pytest.mark.parametrize("signals", [1, 2])
def test_chi2_is_that_of_least_squares_with_the_covariance(signals):
    target, noise, y = problem(signals, spikes=True)
    joints = target.joints
    jump, spike = np.flatnonzero(joints.jump)[5], np.flatnonzero(joints.spike)[9]
    for chosen in ([], [30], [30, 200], [30, jump], [30, jump, spike]):
        expected = chi2_of(noise, y, raw(joints, chosen))
        assert target.chi2(chosen) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("signals", [1, 2])
def test_the_best_candidate_is_the_best_of_a_loop(signals):
    target, *_ = problem(signals)
    chosen, index = [30], allowed(target.joints, [30])
    found = search.best_candidate(target, chosen, index)
    scores = [target.score([*chosen, int(j)]) for j in index]
    assert target.score([*chosen, found]) == pytest.approx(min(scores), abs=1e-6)
    assert search.best_candidate(target, chosen, index[:0]) == -1


def test_what_a_joint_is_worth_is_what_is_lost_without_it():
    target, *_ = problem(2)
    chosen = [30, 120, 260]
    whole = target.evidence(target.chi2(chosen))
    lost = [target.evidence(target.chi2([j for j in chosen if j != i])) - whole for i in chosen]
    assert search.worths(target, chosen) == pytest.approx(lost, rel=1e-6)


def test_the_search_finds_the_best_pair_of_an_exhaustive_search_on_a_clear_curve():
    y = np.interp(X, [0, 1.2, 2.7, 4], [10, 10, 40, 20])
    y = y + 0.1 * np.random.default_rng(0).standard_normal(25)
    target, *_ = problem(config=CONFIG, y=y[None])
    found = min(search.candidate_sets(target), key=target.score)
    few = [j for j in range(0, len(target.joints.position), 8) if not target.joints.jump[j]]
    pairs = [p for p in itertools.combinations(few, 2) if p[1] in allowed(target.joints, [p[0]])]
    assert target.score(found) <= min(target.score(list(p)) for p in pairs)
    assert target.joints.position[found] == pytest.approx([1.2, 2.7], abs=0.05)


def test_joints_keep_their_distance_in_points_and_order():
    target, *_ = problem()
    for chosen in search.candidate_sets(target):
        ranks = target.joints.rank[chosen]
        assert (np.diff(ranks) >= 3).all() and ((ranks >= 4) & (ranks <= 21)).all()


def test_a_spike_takes_its_point_out_and_spikes_are_few():
    target, _, y = problem(spikes=True)
    joints = target.joints
    spikes = np.flatnonzero(joints.spike)
    assert joints.rank[spikes].tolist() == list(range(25))
    left = np.delete(np.arange(25), 7)
    covariance = S[:, None] * np.exp(-np.abs(X[:, None] - X) / 0.1) * S
    inverse = np.linalg.inv(covariance[np.ix_(left, left)])
    base, one = raw(joints, [])[left], y[0, left]
    rest = one - base @ np.linalg.solve(base.T @ inverse @ base, base.T @ inverse @ one)
    assert target.chi2([spikes[7]]) == pytest.approx(rest @ inverse @ rest)
    assert set(spikes) <= set(allowed(joints, [spikes[7]]))
    assert not set(spikes) & set(allowed(joints, spikes[:2].tolist()))
    assert 0 not in allowed(joints, [0]) and set(spikes) <= set(allowed(joints, [0]))


@pytest.mark.parametrize("signals", [1, 2])
def test_resamples_settle_as_a_loop_over_them_does(signals):
    target, noise, _ = problem(signals, config=CONFIG)
    joints = target.joints
    jump = int(np.flatnonzero(joints.jump & (joints.rank == 14))[0])
    start = [int(np.flatnonzero(joints.rank == r)[0]) for r in (5, 9)] + [jump]
    rng = np.random.default_rng(5)
    y = rng.standard_normal((6, signals, 25)) + 20 * np.maximum(X - X[6], 0)
    white = np.stack([noise.whiten(one) for one in y], -1)
    model = SimpleNamespace(joints=joints, target=target, chosen=start)
    chosen, worth = settled(model, white)
    for b in range(6):
        one = search.target_of(joints, white[..., b], target.evidence)
        expected = list(start)
        for _ in range(search.SWEEPS):
            for k in range(3):
                low = joints.rank[expected[k - 1]] + 3 if k else 0
                high = joints.rank[expected[k + 1]] - 3 if k < 2 else 99
                kind = joints.jump == joints.jump[start[k]]
                free = np.flatnonzero(kind & (joints.rank >= low) & (joints.rank <= high))
                rest = expected[:k] + expected[k + 1 :]
                expected[k] = search.best_candidate(one, rest, free)
        assert chosen[b].tolist() == expected
        assert worth[b] == pytest.approx(search.worths(one, expected), rel=1e-6)


def test_penalties_hold_at_40_points_and_grow_as_the_largest_of_many_chances():
    few, many = costs(40, CONFIG), costs(200, CONFIG)
    assert few == pytest.approx((CONFIG.penalty, CONFIG.jump_penalty, CONFIG.outlier**2))
    assert costs(20, CONFIG) == few
    grown = [2 * np.log(np.log(200) / np.log(40)), 2 * np.log(5), 2 * np.log(5)]
    assert np.subtract(many, few) == pytest.approx(grown)


def dense() -> tuple[np.ndarray, Joints]:
    """2001 points, five in a cell, that leap behind point 1002; and their candidates."""
    x = np.linspace(0, 1, 2001)
    y = np.where(np.arange(2001) > 1002, 50.0, 0.0) + 0.1 * np.sin(np.arange(2001))
    correlation = Correlation()
    lags = correlation.lags(x)
    noise = Noise("even", np.ones((1, 2001)), np.array([False]), correlation, lags)
    return x, candidates(x, y[None], noise, CONFIG)


def test_the_jump_of_a_cell_is_where_the_values_leap_most():
    x, joints = dense()
    jumps = joints.position[joints.jump]
    assert 360 < len(jumps) < 370 and (np.diff(jumps) > 0).all()
    assert np.abs(jumps - (x[1002] + x[1003]) / 2).min() == 0


def test_no_stage_is_shorter_than_a_tenth_of_its_step():
    _, joints = dense()
    middle = int(np.argmin(np.abs(joints.position - 0.5)))
    left = joints.position[allowed(joints, [middle])] - joints.position[middle]
    assert np.log10(1.1) == pytest.approx(0.04, rel=0.05)
    for ends in (np.abs(left), joints.position, 1 - joints.position):
        assert 0.04 - 1e-9 < ends.min() < 0.044


def test_with_few_points_every_gap_may_hold_a_jump():
    target, *_ = problem()
    gaps = (X[1:] + X[:-1]) / 2
    inside = gaps[3:-3]  # four points on each side
    assert target.joints.position[target.joints.jump] == pytest.approx(inside)
