"""The model's loss and gradient for many parameter vectors at once.

The kernels are written by hand for speed and tested against `model`.

A *lane* holds its parameters in one row of a flat (G, P) tensor and sees its own minibatch. This
makes the kernels fast:

- Embeddings are sums of a token's and a position's row, and layer norm is linear except for one
  factor r for each token and position (`embed`, `unembed`). So queries, keys, values and what they
  write are computed for the T = V + 2L rows of a table, never for the B·2L inputs of a minibatch.
- The minibatch enters as row numbers (`lists`): a key collects two columns of a score table, and
  attention is spread over the columns of another. Only a few large matrix products grow with the
  minibatch (`attention`).
- Only the L answer positions have queries, and in sorted lists of distinct numbers only
  1 + (L − 1)(V − L) of these can differ.
- All lanes share batched matrix products, and large buffers are allocated once.
- What is no matrix product is compiled, for one core of a CPU (`compiled`); elsewhere it is done in
  torch (`plain`).
- A lane restricted to one head (`head.HeadKernel`) computes that head alone: what the rest of the
  network adds to the residual stream is computed once per checkpoint and data set.

Symbols: G lanes, B lists, L list length, H heads, d head width, D residual width, V vocabulary.
"""

from devsort.sorting.kernels.head import Frozen, HeadKernel, stack
from devsort.sorting.kernels.sort import SortKernel, lane_bytes

__all__ = ["Frozen", "HeadKernel", "SortKernel", "lane_bytes", "stack"]
