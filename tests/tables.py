"""Tables of heads' measures with given effects, for tests."""

import numpy as np


def table(effect, increase=None):
    """Tables with a given copy effect, and loss increases that follow it where not given."""
    effect = np.asarray(effect, float)
    increase = np.maximum(effect, 0) if increase is None else np.asarray(increase, float)
    return {"copy_effect": effect, "loss_increase": increase}
