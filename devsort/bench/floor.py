"""The floor: the rate of steps that consist of their matrix products alone.

Multiply-adds of one lane's step, in the arithmetic of the kernels in torch (T = V + 2L
rows of the tables, and R = min(B L, 1 + (L − 1)(V − L)) query rows, see
`devsort.sorting.kernels.lists.Rows`):

    norms      2L · D · V                  squared norms of token plus position
    tables     (T + 1) D · 3 H d           queries, keys and values of every row
    writes     H (T + 1) d · D             values times W_O
    scores     H R d · T                   of every query with every row
    heads      H B L · T · D               attention, spread over the rows, times what they write
    logits     B L · D · V                 unembedding

A product X W costs as much again for each gradient, with respect to X and to W. The whole model
needs both gradients of every product:

    flops = 2 · 3 (norms + tables + writes + scores + heads + logits)

One head, H = 1, needs no norms, and no gradient with respect to the input of the tables or the
unembedding:

    flops = 2 (2 tables + 3 writes + 3 scores + 3 heads + 2 logits)

The compiled functions take fewer for `heads`, since an answer attends to at most 2L of the T rows.
The floor still counts T, so that it is one measure for all versions and devices.

Left out: products with a vector (layer norm's shift folded into biases), softmax, layer norm,
gathers, the update, the noise. The floor is the measured peak rate of float32 matrix products of
the machine, divided by these flops.
"""

import torch

from devsort.bench.timing import now
from devsort.sorting.model import Shape

SIZE = {"cpu": 1024, "cuda": 8192}  # n of the square matrices that measure the peak


def step_flops(shape: Shape, lists: int, one_head: bool = False) -> int:
    """Floating-point operations of the matrix products of one lane's loss and gradient.

    Args:
        shape: Dimensions of the model.
        lists: B, lists in the minibatch.
        one_head: Only one head is free.
    """
    L, D, d, V = shape.list_length, shape.d_model, shape.d_head, shape.vocab
    H, T = 1 if one_head else shape.heads, V + 2 * L
    norms = 2 * L * D * V
    tables = (T + 1) * D * 3 * H * d
    writes = H * (T + 1) * d * D
    scores = H * min(lists * L, 1 + (L - 1) * (V - L)) * d * T
    heads = H * lists * L * T * D
    logits = lists * L * D * V
    if one_head:
        return 2 * (2 * tables + 3 * writes + 3 * scores + 3 * heads + 2 * logits)
    return 2 * 3 * (norms + tables + writes + scores + heads + logits)


def matrix_peak(device: torch.device, seconds: float = 0.3) -> float:
    """Peak rate of float32 matrix products in FLOP/s; on a CPU with all of torch's threads.

    It is that of the fastest n × n product within `seconds`.
    """
    n = SIZE[device.type]
    a, b, out = (torch.full((n, n), 0.5, device=device) for _ in range(3))
    best, end = float("inf"), now(device) + seconds
    while (start := now(device)) < end:
        torch.mm(a, b, out=out)
        best = min(best, now(device) - start)
    return 2 * n**3 / best
