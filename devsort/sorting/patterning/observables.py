"""What patterning steers: numbers that are read from a sorter's weights.

c_h(t) is what attending to number t adds to its own logit by head h, the mean over list positions
of the OV diagonal (`circuits.copying`), in logits · σ.

| name        | what                                                                            |
|-------------|---------------------------------------------------------------------------------|
| low         | how much more head 0 than head 1 copies low numbers than high ones:             |
|             | mean of s(t) (c_0 − c_1)(t) / 2, s = 1 below the middle and −1 from it on       |
| split       | variance over numbers of c_0 − c_1                                              |
| suppression | mean over numbers of −min_h c_h                                                 |
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from devsort.sorting import circuits
from devsort.sorting.model import Shape

OBSERVABLES = ("low", "split", "suppression")


def observe(params: Mapping[str, Tensor], shape: Shape) -> Tensor:
    """All OBSERVABLES of a network: (3,)."""
    copied = circuits.copying(params, shape).mean(2)  # (H, N)
    apart = copied[0] - copied[1]
    low = torch.arange(shape.numbers, device=apart.device) < shape.numbers // 2
    sides = torch.where(low, 0.5, -0.5)
    return torch.stack(
        [(sides * apart).mean(), apart.var(correction=0), -copied.min(0).values.mean()]
    )
