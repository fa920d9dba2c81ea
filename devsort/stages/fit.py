"""Fits a trajectory by a piecewise-linear curve with jumps, noise and outliers."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from devsort.stages import joints as _joints
from devsort.stages import noise as _noise
from devsort.stages.config import StagesConfig
from devsort.stages.evidence import Evidence
from devsort.stages.joints import Joints
from devsort.stages.noise import Correlation, Noise
from devsort.stages.search import Target, candidate_sets, target_of
from devsort.stages.trajectory import Trajectory

LIKELY = 4  # number of the best correlations that are tried again with another profile


@dataclass(frozen=True)
class Fit:
    """A continuous piecewise-linear fit with jumps.

    Attributes:
        x: (n,) positions of the points that were used, in decades.
        y: (S, n) values.
        z: (S, n) whitened values.
        target: The input of the search: the whitened values and the candidates.
        sets: Sets of joints that the search tried.
        chosen: The best set: indices of the joints, in order of position.
        scale: (S,) φ, the factor on the profile of the scatter.
        score: −2 log p plus the cost of the joints; the lowest is best.
        level: Standard error that is common to all checkpoints, in nats.
        used: (N,) which points of the trajectory were used; the others are outliers.
    """

    x: np.ndarray
    y: np.ndarray
    z: np.ndarray
    target: Target
    sets: list[list[int]]
    chosen: list[int]
    scale: np.ndarray
    score: float
    level: float
    used: np.ndarray

    @property
    def joints(self) -> Joints:
        """The candidate joints."""
        return self.target.joints

    @property
    def noise(self) -> Noise:
        """The noise of the values."""
        return self.joints.noise

    @property
    def position(self) -> np.ndarray:
        """(k,) ψ in decades."""
        return self.joints.position[self.chosen]

    @property
    def jump(self) -> np.ndarray:
        """(k,) true for a jump."""
        return self.joints.jump[self.chosen]

    @property
    def scatter(self) -> np.ndarray:
        """(S, n) standard deviation of the points around the curve, in nats."""
        return self.scale[:, None] * self.noise.s


def fit(trajectory: Trajectory, config: StagesConfig) -> Fit:
    """Chooses the joints and the noise of a trajectory.

    Points are left out if they are explained better as outliers than by joints.
    """
    every = np.ones(len(trajectory), bool)
    plain = fits(trajectory, every, config)
    spiked = min(
        (fit_with(trajectory, every, config, one.noise, True) for one in contenders(plain)),
        key=lambda one: one.score,
    )
    if spiked.score >= plain[0].score or not (off := outliers(spiked)).any():
        return plain[0]
    return fits(trajectory, ~off, config)[0]


def contenders(ranked: list[Fit]) -> list[Fit]:
    """Returns the best fit of each kind of correlation, since outliers may hide the right kind."""
    best: dict[tuple[bool, bool, bool], Fit] = {}
    for one in ranked:
        best.setdefault(one.noise.correlation.kind, one)
    return list(best.values())


def fits(trajectory: Trajectory, used: np.ndarray, config: StagesConfig) -> list[Fit]:
    """Returns fits with several models of the noise, the best first.

    All correlations are tried with the first profile of the scatter, then the other profiles with
    the best correlation, and then the likely correlations with the best profile.
    """
    part = trajectory.select(used)
    x, profiles = part.x, list(_noise.profiles(part))

    def under(
        profile: tuple[str, np.ndarray, np.ndarray, float], correlations: Iterable[Correlation]
    ) -> list[Fit]:
        name, s, reported, cost = profile
        noises = [Noise(name, s, reported, c, c.lags(x), cost) for c in correlations]
        results = [fit_with(trajectory, used, config, noise) for noise in noises]
        return sorted(results, key=lambda one: one.score)

    first = under(profiles[0], _noise.correlations(x))
    best = [first[0].noise.correlation]
    others = {profile[0]: (profile, under(profile, best)[0]) for profile in profiles[1:]}
    name = min(others, key=lambda name: others[name][1].score)
    if others[name][1].score >= first[0].score:
        return first
    second = under(others[name][0], [one.noise.correlation for one in first[:LIKELY]])
    return sorted([*first, *second], key=lambda one: one.score)


def fit_with(
    trajectory: Trajectory,
    used: np.ndarray,
    config: StagesConfig,
    noise: Noise,
    spikes: bool = False,
) -> Fit:
    """Returns the fit with the best joints under one model of the noise."""
    part = trajectory.select(used)
    x, (y, _) = part.x, part.signals()
    least = len(x) * np.array([_noise.finest(v) for v in y]) ** 2 / np.median(noise.s, 1) ** 2
    evidence = Evidence(len(x), noise.reported, least)
    z = noise.whiten(y)
    candidates = _joints.candidates(x, y, noise, config, spikes)
    target = target_of(candidates, z, evidence)
    sets = candidate_sets(target)
    chosen = min(sets, key=target.score)
    score = target.score(chosen) + noise.log_determinant + noise.cost
    parameters = 2 + 2 * len(chosen)
    scale = evidence.scale(target.chi2(chosen), parameters)
    level = common_error(part.se, scale[0] * noise.s[0])
    return Fit(x, y, z, target, sets, chosen, scale, score, level, used)


def common_error(se: np.ndarray, scatter: np.ndarray) -> float:
    """Returns the part of the standard errors (n,) that does not appear as scatter (n,).

    In nats; 0 if the errors are unknown.
    """
    if not np.isfinite(se).all():
        return 0.0
    return float(np.sqrt(max(np.median(se**2 - scatter**2), 0.0)))


def outliers(model: Fit) -> np.ndarray:
    """Returns (n,), true for the points that the fit explains as spikes."""
    j = model.joints
    return np.isin(np.arange(len(model.x)), j.rank[[i for i in model.chosen if j.spike[i]]])


def curve(model: Fit) -> np.ndarray:
    """Returns the fitted values (S, n) at the points."""
    weights = coefficients(model, model.z[None], model.position[None])[0]
    return weights @ design(model.x, model.position, model.jump).T


def design(x: np.ndarray, position: np.ndarray, jump: np.ndarray) -> np.ndarray:
    """Returns the design matrix (…, n, 2+k) with columns 1, x, φ_1, … at x (…, n), for ψ (…, k)."""
    off = x[..., None] - position[..., None, :]
    raw = np.where(jump, off > 0, np.maximum(off, 0.0))
    return np.concatenate([np.stack([np.ones_like(x), x], -1), raw], -1)


def coefficients(model: Fit, z: np.ndarray, position: np.ndarray) -> np.ndarray:
    """Returns the least-squares coefficients (B, S, 2+k) of white values z (B, S, n), ψ (B, k)."""
    count, n = len(z), len(model.x)
    raw = design(np.broadcast_to(model.x, (count, n)), position, model.jump)  # (B, n, p)
    flat = np.moveaxis(raw, 1, 0).reshape(n, -1)
    solutions = []
    for one, s in zip(np.moveaxis(z, 1, 0), model.noise.s, strict=True):
        white = _noise.whiten(flat, s, model.noise.lags).reshape(n, count, -1)
        white = np.moveaxis(white, 0, 1)
        q, r = np.linalg.qr(white)
        solutions.append(np.linalg.solve(r, np.swapaxes(q, 1, 2) @ one[..., None])[..., 0])
    return np.stack(solutions, 1)
