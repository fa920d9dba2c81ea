"""Resamples a trajectory around its fit, for intervals and probabilities."""

from dataclasses import dataclass

import numpy as np

from devsort.rng import stream
from devsort.stages.config import StagesConfig
from devsort.stages.fit import Fit, coefficients, curve
from devsort.stages.noise import chain_departures, colour
from devsort.stages.settle import settled
from devsort.stages.trajectory import Trajectory


@dataclass(frozen=True)
class Draws:
    """Fits of B resamples with k joints.

    Attributes:
        position: (B, k) ψ in decades.
        coefficients: (B, S, 2+k) coefficients of the curve.
        worth: (B, k) increase of −2 log p if the joint is left out.
    """

    position: np.ndarray
    coefficients: np.ndarray
    worth: np.ndarray


def bootstrap(model: Fit, trajectory: Trajectory, config: StagesConfig) -> Draws:
    """Fits the positions of the joints again to resampled values."""
    white = resampled(model, trajectory, config)  # (S, n, B)
    chosen, worth = settled(model, white)
    position = model.joints.position[chosen]
    return Draws(position, coefficients(model, np.moveaxis(white, -1, 0), position), worth)


def resampled(model: Fit, trajectory: Trajectory, config: StagesConfig) -> np.ndarray:
    """Returns the whitened values (S, n, B) of the curve with resampled checkpoints and chains.

    Checkpoints are resampled as white residuals. If the chains are known, half of the variance of
    the first signal comes from resampling them instead.
    """
    rng = stream(config.seed, "stages bootstrap")
    noise = _from_checkpoints(model, config.bootstrap, rng)
    apart = chain_departures(trajectory)
    if apart is not None:
        chains = _from_chains(apart[model.used], config.bootstrap, rng)
        noise[0] = (noise[0] + chains) / np.sqrt(2)
    return model.noise.whiten(curve(model)[..., None] + noise)


def _from_checkpoints(model: Fit, count: int, rng: np.random.Generator) -> np.ndarray:
    """Returns deviations (S, n, B), from white residuals of size φ drawn with replacement."""
    white = model.z - model.noise.whiten(curve(model))
    white = white - white.mean(1, keepdims=True)
    white *= model.scale[:, None] / np.maximum(white.std(1, keepdims=True), 1e-300)
    index = rng.integers(len(model.x), size=(count, len(model.x)))
    pairs = zip(white, model.noise.s, strict=True)
    return np.stack([colour(w[index].T, s, model.noise.lags) for w, s in pairs])


def _from_chains(apart: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """Returns deviations (n, B) of the mean over chains with Dirichlet weights.

    Their variance is that of the mean, s²/C.
    """
    number = apart.shape[1]
    weights = rng.dirichlet(np.ones(number), count) - 1 / number  # (B, C)
    return np.sqrt((number + 1) / (number - 1)) * apart @ weights.T
