"""The model's loss and gradient for many parameter vectors at once, written by hand for speed; `model` is the oracle.

A *lane* holds its parameters in one row of a flat (G, P) tensor and sees its own minibatch. What makes it fast:

- Queries, keys and values depend on (position, token) alone, so they are computed once for each pair that occurs in the
  minibatch and gathered, instead of once for each of its B·2L tokens (`pairs`).
- Layer-norm gains are folded into the projections: LN(x) W = x̂ (w ∘ W) + b W, with x̂ the normalised input (`norm`).
- Only the L answer positions ask queries (`attention`).
- All lanes share batched matrix products, and large buffers are allocated once.
- A lane restricted to one head (`head.HeadKernel`) touches that head alone: what the rest of the network adds to the
  residual stream is computed once per checkpoint and data set.

Symbols: G lanes, B lists, L list length, H heads, d head width, D residual width, V vocabulary, U pairs, S that query.
"""

from devsort.kernels.head import Frozen, HeadKernel
from devsort.kernels.pairs import Pairs, Rows
from devsort.kernels.sort import SortKernel

__all__ = ["Frozen", "HeadKernel", "Pairs", "Rows", "SortKernel"]
