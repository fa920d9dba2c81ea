"""What sampling writes down: losses first, analysis later."""

from dataclasses import dataclass, fields

import numpy as np


@dataclass(frozen=True)
class Trace:
    """Draws of C chains. Losses are in nats (or the unit of the loss), each on the chain's own minibatch.

    Attributes:
        loss: (C, T) loss of every kept step, burn-in included, before that step's update.
        init_loss: (C, T) loss of the starting point on the same minibatch.
        work: (C, T) (w − w*)·G, with G the gradient of all that is sampled (nβ L, localization and prior).
        force: (C, T) |G|².
        distance: (C, T) |w − w*|².
        groups: name → (C, T) paired loss difference on a part of the data, NaN where the minibatch has none of it.
        dimension: Number of free parameters, d.
        num_burnin: Leading entries of T that are burn-in.
    """

    loss: np.ndarray
    init_loss: np.ndarray
    work: np.ndarray
    force: np.ndarray
    distance: np.ndarray
    groups: dict[str, np.ndarray]
    dimension: int
    num_burnin: int

    @property
    def rise(self) -> np.ndarray:
        """(C, draws) L(w) − L(w*) on the same minibatch, burn-in left out."""
        return (self.loss - self.init_loss)[:, self.num_burnin :]

    def chains(self, index: slice) -> "Trace":
        """The trace of some of the chains."""
        arrays = {f.name: getattr(self, f.name) for f in fields(self)}
        picked = {k: v[index] for k, v in arrays.items() if isinstance(v, np.ndarray)}
        groups = {k: v[index] for k, v in self.groups.items()}
        return Trace(**{**arrays, **picked, "groups": groups})
