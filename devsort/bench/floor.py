"""The floor: how fast a step could be if its matrix products were all there is.

Multiply-adds of one lane's step, in the arithmetic of `devsort.kernels` (U table rows, S of them asking queries):

    tables     (2U + S) D · H d      keys and values of U pairs, queries of S pairs
    attention  2 · H B L · 2L d      scores and weighted values
    output     B L · H d · D         W_O
    logits     B L · D · V           unembedding

A product X W costs as much again for each gradient, by X and by W. The whole model needs both of every product:

    flops = 2 · 3 (tables + attention + output + logits)

One head, H = 1, needs no gradient by the input of the tables and none by the unembedding:

    flops = 2 (2 tables + 3 attention + 3 output + 2 logits)

Left out: products with a vector (layer norm's shift folded into biases), softmax, layer norm, gathers, the update, the
noise. The floor rate is the machine's measured float32 matrix peak over these flops.
"""

import time

import torch

from devsort.kernels import Rows
from devsort.model import Shape

SIZE = 1024  # of the square matrices that measure the peak


def step_flops(shape: Shape, rows: Rows, one_head: bool = False) -> int:
    """Floating-point operations of the matrix products of one lane's loss and gradient.

    Args:
        shape: Dimensions of the model.
        rows: A typical minibatch; its tables say U and S.
        one_head: Only one head is free.
    """
    L, D, d, V = shape.list_length, shape.d_model, shape.d_head, shape.vocab
    H, B = 1 if one_head else shape.heads, rows.targets.shape[1]
    U, S = rows.pairs, rows.pairs - rows.first_query
    tables = (2 * U + S) * D * H * d
    attention = 2 * H * B * L * 2 * L * d
    output = B * L * H * d * D
    logits = B * L * D * V
    if one_head:
        return 2 * (2 * tables + 3 * attention + 3 * output + 2 * logits)
    return 2 * 3 * (tables + attention + output + logits)


def matrix_peak(seconds: float = 0.3) -> float:
    """Float32 matrix peak in FLOP/s on torch's threads: the best 1024³ product within so many seconds."""
    a, b, out = (torch.full((SIZE, SIZE), 0.5) for _ in range(3))
    best, end = float("inf"), time.perf_counter() + seconds
    while (start := time.perf_counter()) < end:
        torch.mm(a, b, out=out)
        best = min(best, time.perf_counter() - start)
    return 2 * SIZE**3 / best
