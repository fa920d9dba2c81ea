"""Boundaries as the joints of a penalised piecewise-linear fit; the approach that `detect` uses.

The number of joints k and the correlation length ℓ minimise

    (n + ν) log((χ²(k, ℓ) + ν) / (n + ν)) + log det R(ℓ) + penalty · k,

the profile of a Gaussian likelihood whose noise is φ times the reported standard errors, φ² having
a prior of weight ν at 1: errors that are honest add power, errors that are not are found out. The
penalty is set by simulation (analysis/stage_benchmark.py --calibrate). A joint is a boundary if the
directions on both sides differ, or the rates do by a factor of two with intervals apart; where the
whole trajectory goes one way and a smooth curve explains it as well as its joints do, they are
bends and no boundaries.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from devsort.rng import stream
from devsort.stages import hinges
from devsort.stages.config import StagesConfig
from devsort.stages.fit import Fit, coefficients, curve
from devsort.stages.segments import Boundary, Draws, Segment, boundary_joints, describe
from devsort.stages.trajectory import Trajectory

LENGTHS = (0.0, 0.05, 0.12, 0.25)  # ℓ in decades
PRIOR_POINTS = 10.0  # ν: points that the reported standard errors count for
MOST = 8  # joints
CALIBRATED = 40  # checkpoints at which the penalties hold


def find(trajectory: Trajectory, config: StagesConfig) -> tuple[list[Boundary], list[Segment]]:
    """Boundaries with intervals, and the segments between them.

    Args:
        trajectory: What is segmented.
        config: Penalty, number of resamples, seed.
    """
    model = fit(trajectory, config)
    draws = bootstrap(model, trajectory, config)
    kept = boundary_joints(model, draws, config)
    return describe(model, draws, kept, config)


def fit(trajectory: Trajectory, config: StagesConfig) -> Fit:
    """Chooses joints and noise.

    Points that are better explained as outliers than by joints are left out.
    """
    every = np.ones(len(trajectory), bool)
    plain, spiked = (_best(trajectory, every, config, spikes) for spikes in (False, True))
    return _best(trajectory, ~outliers(spiked), config) if spiked.score < plain.score else plain


def outliers(model: Fit) -> np.ndarray:
    """(n,) points that the fit takes out as spikes."""
    d = model.candidates
    return np.isin(np.arange(len(model.x)), d.rank[[j for j in model.chosen if d.spike[j]]])


def smoothed_errors(se: np.ndarray) -> np.ndarray:
    """Each standard error drawn towards its running median.

    Those of few chains are uncertain by tens of per cent.
    """
    windows = np.lib.stride_tricks.sliding_window_view(np.pad(np.log(se), 3, mode="reflect"), 7)
    return np.exp((np.log(se) + 3 * np.median(windows, -1)) / 4)


def bootstrap(model: Fit, trajectory: Trajectory, config: StagesConfig) -> Draws:
    """Places the joints anew on resampled values: a list of (chosen, coefficients (S, 2+k))."""
    d, draws = model.candidates, []
    for z in resampled(model, trajectory, config):
        chosen = hinges.sweep(d, z, model.chosen, same_kind=True) if model.chosen else []
        draws.append((chosen, coefficients(model, z, chosen)))
    return draws


def resampled(model: Fit, trajectory: Trajectory, config: StagesConfig) -> list[np.ndarray]:
    """Whitened values (S, n) of the curve with resampled chains and checkpoints.

    `config.bootstrap` of them.
    """
    rng = stream(config.seed, "stages bootstrap")
    noise = _resampled_noise(model, trajectory, config.bootstrap, rng)  # (B, S, n)
    values = np.moveaxis(curve(model) + noise, 0, -1)  # (S, n, B)
    white = [
        hinges.whiten(v, model.x, s, model.length) for v, s in zip(values, model.s, strict=True)
    ]
    return list(np.moveaxis(np.stack(white), -1, 0))


def _resampled_noise(
    model: Fit, trajectory: Trajectory, count: int, rng: np.random.Generator
) -> np.ndarray:
    """(B, S, n).

    Checkpoints resampled as whitened residuals; half of the first signal's variance is the chains'.
    """
    n = len(model.x)
    d = model.candidates
    columns = np.concatenate([d.base, d.columns[:, :, model.chosen]], 2)
    fitted = np.einsum("snk,sk->sn", columns, coefficients(model, model.z, model.chosen))
    white = model.z - fitted
    white = white - white.mean(1, keepdims=True)
    white *= model.scale / np.maximum(white.std(1, keepdims=True), 1e-12)
    index = rng.integers(n, size=(count, n))
    noise = np.stack(
        [
            hinges.colour(w[index].T, model.x, s, model.length).T
            for w, s in zip(white, model.s, strict=True)
        ],
        1,
    )
    chains = None if trajectory.chains is None else trajectory.chains[model.used]
    if chains is not None and chains.shape[1] > 2 and np.isfinite(chains).all():
        noise[:, 0] = (noise[:, 0] + _resampled_chains(chains, count, rng)) / np.sqrt(2)
    return noise


def _resampled_chains(chains: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """(B, n) deviations of the mean over Dirichlet-weighted chains.

    Their variance is that of the mean, s²/C.
    """
    number = chains.shape[1]
    weights = rng.dirichlet(np.ones(number), count) - 1 / number  # (B, C)
    return (
        np.sqrt((number + 1) / (number - 1)) * weights @ (chains - chains.mean(1, keepdims=True)).T
    )


def _best(
    trajectory: Trajectory, used: np.ndarray, config: StagesConfig, spikes: bool = False
) -> Fit:
    """The fit with the best correlation length, with or without spikes among the candidates."""
    part = trajectory.select(used)
    y, s = part.llc[None], smoothed_errors(part.se)[None]
    if part.others is not None:
        y, s = np.concatenate([y, part.others[..., 0]]), np.concatenate([s, part.others[..., 1]])
    price = costs(len(part), config)[: 3 if spikes else 2]
    fits = [_best_at(part.x, y, s, length, (config.min_points, price)) for length in LENGTHS]
    return replace(min(fits, key=lambda fit: fit.score), used=used)


def costs(n: int, config: StagesConfig) -> tuple[float, float, float]:
    """What a hinge, a jump and a spike must earn on n points.

    Chance has about log n independent places for a hinge and n for a jump or a spike; the largest
    of m values of χ² grows by 2 log m. The penalties are those at `CALIBRATED` points.
    """
    more = max(1.0, n / CALIBRATED)
    places = 2 * np.log(more)
    hinge = 2 * np.log(np.log(more * CALIBRATED) / np.log(CALIBRATED))
    return config.penalty + hinge, config.jump_penalty + places, config.outlier**2 + places


def _best_at(
    x: np.ndarray, y: np.ndarray, s: np.ndarray, length: float, search: tuple[int, Sequence[float]]
) -> Fit:
    d = hinges.dictionary(x, s, length, *search)
    z = np.stack([hinges.whiten(v, x, e, length) for v, e in zip(y, s, strict=True)])
    most = min(MOST, max(0, (len(x) - 4) // 4)) + (
        max(hinges.FEWEST, len(x) // hinges.SPARSE) if d.spike.any() else 0
    )
    sets = hinges.path(d, z, most)
    scores = [
        objective(hinges.chi2(d, z, chosen), len(x), length, x) + d.cost[chosen].sum()
        for chosen in sets
    ]
    best = int(np.argmin(scores))
    variance = (hinges.chi2(d, z, sets[best]).mean() + PRIOR_POINTS) / (
        len(x) - 2 - 2 * best + PRIOR_POINTS
    )
    return Fit(
        x,
        s,
        y,
        z,
        d,
        sets[best],
        length,
        float(np.sqrt(variance)),
        scores[best],
        np.ones(len(x), bool),
    )


def objective(chi2: np.ndarray, n: int, length: float, x: np.ndarray) -> float:
    """Minus twice the log of the marginal likelihood, over signals, up to a constant."""
    weight = n + PRIOR_POINTS
    return float((weight * np.log((chi2 + PRIOR_POINTS) / weight)).sum()) + len(
        chi2
    ) * hinges.log_determinant(x, length)
