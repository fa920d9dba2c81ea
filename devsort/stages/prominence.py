"""Boundaries at peaks and dips whose prominence stands out of the standard errors.

The values are smoothed over three points; an extremum counts if its prominence exceeds `THRESHOLD` times the standard
error there (scipy.signal.find_peaks). Intervals come from resampled values. Joints without an extremum are out of its
reach.
"""

import numpy as np
from scipy.signal import find_peaks

from devsort.config import StagesConfig
from devsort.rng import stream
from devsort.stages.piecewise import segments_at, smoothed_errors
from devsort.stages.segments import Boundary, Segment
from devsort.stages.trajectory import Trajectory

THRESHOLD = 4.0  # standard errors
REACH = 0.3  # decades within which a resampled extremum is the same one


def find(trajectory: Trajectory, config: StagesConfig) -> tuple[list[Boundary], list[Segment]]:
    """Boundaries with intervals, and the segments between them; see `piecewise.find`."""
    x, s = trajectory.x, smoothed_errors(trajectory.se)
    found = extrema(trajectory.llc, s)
    rng = stream(config.seed, "prominence")
    resampled = trajectory.llc + s * rng.standard_normal((config.bootstrap, len(x)))
    drawn = [x[extrema(y, s)] for y in resampled]
    boundaries = [_boundary(float(x[i]), drawn) for i in found]
    return boundaries, segments_at(trajectory, boundaries, config)


def extrema(y: np.ndarray, s: np.ndarray) -> np.ndarray:
    """Indices of peaks and dips of smoothed values with a prominence of `THRESHOLD` standard errors."""
    padded = np.pad(y / s**2, 1, mode="edge"), np.pad(1 / s**2, 1, mode="edge")
    total, weight = (np.convolve(p, np.ones(3), "valid") for p in padded)
    smooth, error = total / weight, np.sqrt(1 / weight)
    peaks = find_peaks(smooth, prominence=THRESHOLD * error)[0]
    return np.sort(np.concatenate([peaks, find_peaks(-smooth, prominence=THRESHOLD * error)[0]]))


def _boundary(at: float, drawn: list[np.ndarray]) -> Boundary:
    near = [float(d[np.argmin(np.abs(d - at))]) for d in drawn if len(d) and np.abs(d - at).min() < REACH]
    low, high = np.quantile([at, *near], [0.025, 0.975])
    return Boundary(at, float(min(low, at)), float(max(high, at)))
