"""Tables of heads' measures with given effects, for tests."""

import numpy as np


def table(effect, increase=None, z=9.0):
    """Tables with a given copy effect, and loss increases that follow it where not given.

    Suppression is earned by `z` standard errors, for all heads or each.
    """
    effect = np.asarray(effect, float)
    increase = np.maximum(effect, 0) if increase is None else np.asarray(increase, float)
    earned = np.broadcast_to(np.asarray(z, float), effect.shape[:-1])
    return {
        "copy_effect": effect,
        "loss_increase": increase,
        "mean_suppression_gain": 0.01 * earned,
        "suppression_z": earned,
    }
