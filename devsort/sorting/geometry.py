"""The blocks of the sorting model's weights, for relative geometry; see `sampling.geometry`.

Every tensor is a block; in W_Q, W_K, W_V and W_O each head is a block. A bias has the scale of the
output that it is added to, like one more row of the weight whose input is constant and as large as
the other inputs:

| parameter            | scale                                                                    |
|----------------------|--------------------------------------------------------------------------|
| b_Q, b_K, b_V        | RMS(W_Q, W_K, W_V of the head) · RMS(gain of ln1)                        |
| b_O                  | RMS(W_E): both write to the residual stream                              |
| b_U                  | RMS(W_U) · RMS(gain of ln_final)                                         |
| ln1.w, ln_final.w    | RMS(gain) / √D, the RMS of the gain as a diagonal matrix                 |
| ln1.b, ln_final.b    | the scale of their gain                                                  |

The scale of W_Q alone would be wrong for b_Q: if the norm's gain is rescaled, W_Q changes and b_Q
does not. The scale of W_O would be wrong for b_O, because it changes if W_V is rescaled. Without
layer norm the weights read the residual stream directly, so W_E takes the place of the gains.
"""

from collections.abc import Sequence

import torch

from devsort.layout import Layout
from devsort.sampling.geometry import Block, Rescaled, block_scales, flat_scale
from devsort.sorting.model import ATTN, Params, Shape, param_shapes
from devsort.sorting.objective import Checkpoint, SortObjective


def sorter_blocks(shape: Shape) -> dict[str, Block]:
    """The blocks of the model's parameters; see the module's docstring."""
    layer_norm, root = shape.layer_norm, shape.d_model**0.5
    per = root if layer_norm else 1.0  # RMS of a gain, relative to its scale
    first = "blocks.0.ln1.w" if layer_norm else "embed.W_E"
    last = "ln_final.w" if layer_norm else "embed.W_E"
    norms = {f"{n}.w": Block(factor=1 / root) for n in ("blocks.0.ln1", "ln_final")}
    norms |= {f"{n}.b": Block(follows=(f"{n}.w",)) for n in ("blocks.0.ln1", "ln_final")}
    return {
        **{ATTN + f"W_{m}": Block(axis=0) for m in "QKVO"},
        **{
            ATTN + f"b_{m}": Block(axis=0, follows=(ATTN + f"W_{m}", first), factor=per)
            for m in "QKV"
        },
        ATTN + "b_O": Block(follows=("embed.W_E",)),
        "unembed.b_U": Block(follows=("unembed.W_U", last), factor=per),
        **(norms if layer_norm else {}),
    }


def sorter_scales(params: Params, shape: Shape) -> Params:
    """The scale of every weight of a sorting model: name → tensor of the parameter's shape."""
    return block_scales(params, sorter_blocks(shape))


def relative(objective: SortObjective, checkpoints: Sequence[Checkpoint], shape: Shape) -> Rescaled:
    """The objective in units of each checkpoint's own scales.

    Args:
        objective: All chains of one restriction at some checkpoints.
        checkpoints: The checkpoints, in the objective's order.
        shape: Dimensions of the model.
    """
    layout, free = Layout(param_shapes(shape)), objective.free
    rows = [flat_scale(layout, sorter_scales(c.params, shape), free) for c in checkpoints]
    if len(set(map(id, checkpoints))) == 1:
        return Rescaled(objective, rows[0])
    return Rescaled(objective, torch.stack(rows))
