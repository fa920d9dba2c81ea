"""Attention over the pair tables, forward and backward, for any number of heads.

Per-head tensors are laid out head first, (H, G, B, …), so that each head's slice is contiguous.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from devsort.kernels.norm import Gains, fold, fold_backward
from devsort.kernels.pairs import Buffers, Rows
from devsort.model import ATTN, Params


@dataclass(frozen=True)
class Attended:
    """What the backward pass needs of the forward pass."""

    fold_kv: Tensor  # (G, D, 2·H·d)
    fold_q: Tensor  # (G, D, H·d)
    kv_index: Tensor  # (2·H·G·B·2L)
    q_index: Tensor  # (H·G·B·L)
    kv: Tensor  # (2, H·G·B, 2L, d)
    q: Tensor  # (H·G·B, L, d), scaled by 1/sqrt(d)
    pattern: Tensor  # (H·G·B, L, 2L)
    z: Tensor  # (H, G, B·L, d)


def attend(p: Params, norm: Gains, xhat: Tensor, rows: Rows, space: tuple[Buffers, Tensor, Tensor]) -> Attended:
    """Adds Σ_h head_out_h to the residual stream in place.

    Args:
        p: W_Q, W_K, W_V (G, H, D, d), W_O (G, H, d, D) and biases (G, H, d), under their full names.
        norm: Gains of the layer norm before attention.
        xhat: (G, U, D) normalised input of every table row.
        rows: Minibatches.
        space: Buffers, causal mask (L, 2L) of 0 and −inf, and the residual stream (G, B·L, D) to add to.
    """
    buffers, mask, resid = space
    (G, H, _, d), (B, L2) = p[ATTN + "W_Q"].shape, rows.keys.shape[1:]
    folds = {which: fold(*_matrix(p, which), norm) for which in "KVQ"}
    fold_kv = torch.cat([folds["K"][0], folds["V"][0]], 2)  # (G, D, 2·H·d)
    bias_kv = torch.cat([folds["K"][1], folds["V"][1]], 2)  # (G, 1, 2·H·d)
    fold_q, bias_q = (t / math.sqrt(d) for t in folds["Q"])
    table = torch.baddbmm(bias_kv, xhat, fold_kv, out=buffers("kv_table", G, rows.pairs, 2 * H * d))
    queries = torch.baddbmm(bias_q, xhat[:, rows.first_query :], fold_q)  # (G, S, H·d)
    kv_index, q_index = rows.flat(H, 2), rows.flat(H, queries_only=True, query_table=True)
    kv = torch.index_select(table.view(-1, d), 0, kv_index, out=buffers("kv", kv_index.numel(), d))
    q = torch.index_select(queries.view(-1, d), 0, q_index, out=buffers("q", q_index.numel(), d))
    kv, q = kv.view(2, H * G * B, L2, d), q.view(H * G * B, L2 // 2, d)
    scores = torch.baddbmm(mask, q, kv[0].mT, out=buffers("scores", H * G * B, L2 // 2, L2))
    pattern = torch.softmax(scores, -1)
    z = torch.bmm(pattern, kv[1], out=buffers("z", *q.shape)).view(H, G, -1, d)
    for h in range(H):
        resid.baddbmm_(z[h], p[ATTN + "W_O"][:, h])
    return Attended(fold_kv, fold_q, kv_index, q_index, kv, q, pattern, z)


def attend_backward(
    p: Params, g: Params, dresid: Tensor, s: Attended, space: tuple[Rows, Buffers]
) -> tuple[Tensor, Tensor]:
    """From dL/d(resid) (G, B·L, D) to the gradients of the tables; writes the gradient of W_O.

    Returns:
        dkv (G, U, 2·H·d) and dq (G, S, H·d); dq is by the scaled queries.
    """
    rows, buffers = space
    H, G, _, d = s.z.shape
    dz = buffers("dz", *s.z.shape)
    for h in range(H):
        torch.bmm(dresid, p[ATTN + "W_O"][:, h].mT, out=dz[h])
        g[ATTN + "W_O"][:, h] = torch.bmm(s.z[h].mT, dresid)
    dz = dz.view(s.q.shape)
    dpattern = torch.bmm(dz, s.kv[1].mT, out=buffers("scores", *s.pattern.shape))
    dscores = torch._softmax_backward_data(dpattern, s.pattern, -1, torch.float32)
    dkv = buffers("dkv", *s.kv.shape)
    torch.bmm(dscores.mT, s.q, out=dkv[0])
    torch.bmm(s.pattern.mT, dz, out=dkv[1])
    dq = torch.bmm(dscores, s.kv[0], out=buffers("dq", *s.q.shape))
    dkv_table = buffers("kv_table", G, rows.pairs, 2 * H * d).zero_()
    dkv_table.view(-1, d).index_add_(0, s.kv_index, dkv.view(-1, d))
    dq_table = buffers("q_table", G, rows.pairs - rows.first_query, H * d).zero_()
    dq_table.view(-1, d).index_add_(0, s.q_index, dq.view(-1, d))
    return dkv_table, dq_table


def projections_backward(p: Params, g: Params, norm: Gains, xhat: Tensor, tables: tuple[Tensor, Tensor, int]) -> None:
    """Writes the gradients of W_Q, W_K, W_V and their biases, and of the layer norm's gains where `g` has them.

    Args:
        p: Parameters of `attend`.
        g: Where gradients go, same names and shapes.
        norm: Gains of the layer norm before attention.
        xhat: (G, U, D) normalised input of every table row.
        tables: dkv and dq of `attend_backward`, and the first query row.
    """
    dkv, dq, first_query = tables
    H, d = p[ATTN + "W_Q"].shape[1], p[ATTN + "W_Q"].shape[3]
    dk, dv = torch.bmm(xhat.mT, dkv).chunk(2, 2)  # (G, D, H·d)
    dbk, dbv = dkv.sum(1).chunk(2, 1)  # (G, H·d)
    dq_fold = torch.bmm(xhat[:, first_query:].mT, dq) / math.sqrt(d)
    grads = {"K": (dk, dbk), "V": (dv, dbv), "Q": (dq_fold, dq.sum(1) / math.sqrt(d))}
    dnorms = []
    for which, (dfold, dbias) in grads.items():
        dW, dnorm = fold_backward(dfold, dbias, _matrix(p, which)[0], norm)
        g[f"{ATTN}W_{which}"].copy_(dW.unflatten(2, (H, d)).transpose(1, 2))
        g[f"{ATTN}b_{which}"].copy_(dbias.unflatten(1, (H, d)))
        dnorms.append(dnorm)
    if norm is not None and "blocks.0.ln1.w" in g:
        g["blocks.0.ln1.w"].copy_(sum(dw for dw, _ in dnorms))
        g["blocks.0.ln1.b"].copy_(sum(db for _, db in dnorms))


def _matrix(p: Params, which: str) -> tuple[Tensor, Tensor]:
    """W (G, D, H·d) and b (G, H·d) of all heads side by side."""
    return p[f"{ATTN}W_{which}"].transpose(1, 2).flatten(2), p[f"{ATTN}b_{which}"].flatten(1)
