"""The trace: what sampling records. All analysis starts from it."""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np

from devsort.sampling.config import SamplerConfig


@dataclass(frozen=True)
class Trace:
    """The draws of C chains, T draws each.

    Losses are in nats (or in the unit of the loss), each on the chain's own minibatch.

    Attributes:
        loss: (C, T) loss at every draw, before the update of that step.
        init_loss: (C, T) loss of the starting point w* on the same minibatch.
        work: (C, T) (w − w*)·G, where G is the gradient of −log of the sampled density (nβ L,
            localization and prior).
        force: (C, T) |G|².
        distance: (C, T) |w − w*|².
        heating: (C, K) the excess of nβ (L − L(w*)) caused by minibatch noise, to first order, at
            every `config.PROBE`-th draw; see `sampling.methods`. K = 0 for SGLD.
        burnin_loss: (C, steps) like `loss`, during burn-in; only the last of these steps if it was
            read from a store that has no more.
        burnin_init_loss: (C, steps) like `init_loss`, during burn-in.
        parts: Name → (C, T) difference between the two losses on a part of the data; NaN where the
            minibatch has no rows of it.
        dimension: Number of free parameters, d.
        config: The sampler settings.
    """

    loss: np.ndarray
    init_loss: np.ndarray
    work: np.ndarray
    force: np.ndarray
    distance: np.ndarray
    heating: np.ndarray
    burnin_loss: np.ndarray
    burnin_init_loss: np.ndarray
    parts: dict[str, np.ndarray]
    dimension: int
    config: SamplerConfig

    @property
    def rise(self) -> np.ndarray:
        """(C, T) L(w) − L(w*) on the same minibatch."""
        return self.loss - self.init_loss

    @property
    def burnin_rise(self) -> np.ndarray:
        """(C, burn-in steps) L(w) − L(w*) on the same minibatch, before the first draw."""
        return self.burnin_loss - self.burnin_init_loss

    @property
    def dead(self) -> np.ndarray:
        """(C,) bool, the chains whose loss became infinite or NaN. They stay in the trace."""
        return ~(np.isfinite(self.loss).all(1) & np.isfinite(self.burnin_loss).all(1))

    @classmethod
    def join(cls, traces: Sequence["Trace"]) -> "Trace":
        """Joins the chains of several traces into one trace."""
        arrays: dict[str, Any] = {
            name: np.concatenate([getattr(t, name) for t in traces]) for name in ARRAYS
        }
        parts = {part: np.concatenate([t.parts[part] for t in traces]) for part in traces[0].parts}
        return replace(traces[0], **arrays, parts=parts)

    def chains(self, chosen: np.ndarray | slice) -> "Trace":
        """Returns the trace of some chains, selected by a (C,) mask, a slice or positions."""
        arrays = {name: getattr(self, name)[chosen] for name in ARRAYS}
        return replace(self, **arrays, parts={p: rise[chosen] for p, rise in self.parts.items()})


ARRAYS = [f.name for f in fields(Trace) if f.name not in ("parts", "dimension", "config")]
