"""Whether two contenders of the bench gave the same answer."""

from typing import Any

import numpy as np

LOSS_TOLERANCE = 1e-5  # relative, of every training step's loss
SIGMAS = 4.0  # standard errors within which the chains' mean losses agree


def same_losses(mine: list[np.ndarray], theirs: list[np.ndarray]) -> dict[str, Any]:
    """Whether the losses of all training steps are equal up to float32 rounding."""
    off = float(np.max(np.abs(np.stack(mine) / np.stack(theirs) - 1)))
    return {
        "devsort": float(mine[0][-1]),
        "peer": float(theirs[0][-1]),
        "off": off,
        "ok": off <= LOSS_TOLERANCE,
    }


def same_means(mine: list[np.ndarray], theirs: list[np.ndarray]) -> dict[str, Any]:
    """Whether the mean losses minus the checkpoint's agree within the errors between chains.

    Returns:
        Both means and their difference in standard errors, `off`. `ok` is also false if the error
        exceeds a tenth of the mean, because agreement would then mean nothing.
    """
    a, b = np.concatenate(mine).astype(float), np.concatenate(theirs).astype(float)
    error = float(np.hypot(a.std(ddof=1) / np.sqrt(len(a)), b.std(ddof=1) / np.sqrt(len(b))))
    off = float(abs(a.mean() - b.mean()) / error)
    ok = off <= SIGMAS and error <= 0.1 * abs(b.mean())
    return {"devsort": float(a.mean()), "peer": float(b.mean()), "off": off, "ok": bool(ok)}
