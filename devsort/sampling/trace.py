"""What sampling writes down: losses first, analysis later."""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np

from devsort.sampling.config import SamplerConfig


@dataclass(frozen=True)
class Trace:
    """Draws of C chains.

    Losses are in nats (or the unit of the loss), each on the chain's own minibatch.

    Attributes:
        loss: (C, T) loss at every draw, before that step's update.
        init_loss: (C, T) loss of the starting point w* on the same minibatch.
        work: (C, T) (w − w*)·G, with G the gradient of all that is sampled (nβ L, localization and
            prior).
        force: (C, T) |G|².
        distance: (C, T) |w − w*|².
        heating: (C, K) by how much nβ (L − L(w*)) is too high through the noise of minibatches, to
            first order, at every `config.PROBE`-th draw, see `sampling.methods`; K = 0 for SGLD.
        burnin_loss: (C, steps) of burn-in, as `loss`; the last of them if a store kept no more.
        burnin_init_loss: (C, steps), as `init_loss`.
        parts: name → (C, T) paired loss difference on a part of the data, NaN where the minibatch
            has none of it.
        dimension: Number of free parameters, d.
        config: The settings that it was sampled with.
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
        """(C, burn-in steps) L(w) − L(w*) before the first draw."""
        return self.burnin_loss - self.burnin_init_loss

    @property
    def dead(self) -> np.ndarray:
        """(C,) bool, chains that are no longer finite; they stay in the trace as they are."""
        return ~(np.isfinite(self.loss).all(1) & np.isfinite(self.burnin_loss).all(1))

    @classmethod
    def join(cls, traces: Sequence["Trace"]) -> "Trace":
        """One trace of the chains of all."""
        arrays: dict[str, Any] = {
            name: np.concatenate([getattr(t, name) for t in traces]) for name in ARRAYS
        }
        parts = {part: np.concatenate([t.parts[part] for t in traces]) for part in traces[0].parts}
        return replace(traces[0], **arrays, parts=parts)

    def chains(self, chosen: np.ndarray | slice) -> "Trace":
        """The trace of some chains, given by a (C,) mask, a slice or their positions."""
        arrays = {name: getattr(self, name)[chosen] for name in ARRAYS}
        return replace(self, **arrays, parts={p: rise[chosen] for p, rise in self.parts.items()})


ARRAYS = [f.name for f in fields(Trace) if f.name not in ("parts", "dimension", "config")]
