"""Circuits: what a head moves (OV) and where it looks (QK), read from the weights alone.

Layer norm is folded into the weights wherever that is exact. Before attention the residual stream
is one token plus one position, so its LN_1, including the scale, is known exactly for each pair;
the circuits average over positions. Before the unembedding, the centring and the gain fold into
W_U exactly. The scale 1/σ depends on the list and is left out here, so OV is in logits times σ and
its signs are exact. `heads.measures` divides by the σ of each answer.

Whatever the softmaxes ignore is removed. OV is centred over outputs, because a constant added to
all logits changes nothing, and over sources, because attention sums to one, so a constant in all
values is a bias. QK is centred over keys. Notation follows Elhage et al. 2021, "A mathematical
framework for transformer circuits".
"""

import math
from collections.abc import Mapping

import numpy as np
import torch
from scipy.stats import hypergeom
from torch import Tensor

from devsort.sorting.model import ATTN, Shape, layer_norm


def ov(params: Mapping[str, Tensor], shape: Shape) -> Tensor:
    """OV_h[s, t] = ȳ_s W_V W_O U_t, centred over s and t.

    It is what attending to number s adds to the logit of number t.

    ȳ_s is LN_1(W_E[s] + W_pos[j]) averaged over the list positions j, and U is the folded
    unembedding.

    Returns:
        (H, N, N) in logits · σ; a row is the number attended to, a column the number whose logit
        changes.
    """
    values = source_values(params, shape).mean(2)  # (H, N, d)
    circuit = values @ params[ATTN + "W_O"] @ folded_unembedding(params, shape)  # (H, N, N)
    return circuit - circuit.mean(1, keepdim=True)


def qk(params: Mapping[str, Tensor], shape: Shape) -> Tensor:
    """QK_h[q, k] = mean score q·k / sqrt(d_head), centred over k.

    It is the score that the current token q gives to number k of the list.

    Both sides are averaged over the positions that they can have; the query is weighted by the
    probability of its position (`query_positions`). The score is bilinear, so the average is exact.
    Row N is SEP.

    Returns:
        (H, N + 1, N), in nats of attention.
    """
    L = shape.list_length
    y = normed_tokens(params, shape)  # (V, 2L, D)
    at = torch.as_tensor(query_positions(shape), dtype=y.dtype, device=y.device)  # (V, L)
    query = torch.einsum("vl,vld->vd", at, y[:, L:])
    key = y[: shape.numbers, :L].mean(1)
    q = query @ params[ATTN + "W_Q"] + params[ATTN + "b_Q"][:, None]  # (H, V, d)
    k = key @ params[ATTN + "W_K"] + params[ATTN + "b_K"][:, None]  # (H, N, d)
    scores = q @ k.mT / math.sqrt(shape.d_head)
    return scores - scores.mean(-1, keepdim=True)


def source_values(params: Mapping[str, Tensor], shape: Shape) -> Tensor:
    """Values W_V LN_1(W_E[s] + W_pos[j]) of number s at list position j, minus their mean.

    Shape (H, N, L, d); the mean is over s and j.
    """
    y = normed_tokens(params, shape)[: shape.numbers, : shape.list_length]  # (N, L, D)
    values = y @ params[ATTN + "W_V"][:, None]  # (H, N, L, d)
    return values - values.mean((1, 2), keepdim=True)


def copying(params: Mapping[str, Tensor], shape: Shape) -> Tensor:
    """The diagonal of OV for each list position j.

    It is what attending to number t at position j adds to t's own logit.

    Returns:
        (H, N, L), in logits · σ; its mean over j is the diagonal of `ov`.
    """
    to_logit = params[ATTN + "W_O"] @ folded_unembedding(params, shape)  # (H, d, N)
    return torch.einsum("hnld,hdn->hnl", source_values(params, shape), to_logit)


def normed_tokens(params: Mapping[str, Tensor], shape: Shape) -> Tensor:
    """LN_1(W_E[v] + W_pos[j]) of each token at each position: (V, 2L, D)."""
    resid = params["embed.W_E"][:, None] + params["pos_embed.W_pos"][: 2 * shape.list_length]
    return layer_norm(resid, params.get("blocks.0.ln1.w"), params.get("blocks.0.ln1.b"))


def folded_unembedding(params: Mapping[str, Tensor], shape: Shape) -> Tensor:
    """W_U of the numbers (D, N), centred over them, with LN_f's centring and gain folded in."""
    unembedding = params["unembed.W_U"][:, : shape.numbers]
    if shape.layer_norm:
        gained = params["ln_final.w"][:, None] * unembedding
        unembedding = gained - gained.mean(0)
    return unembedding - unembedding.mean(1, keepdim=True)


def query_positions(shape: Shape) -> np.ndarray:
    """P(query at position L + i | current token v), for uniform lists without repetition.

    Column i is position L + i. SEP always queries from the first of them. A number has rank r
    (from 0) in its list with a hypergeometric probability and then queries from column r + 1,
    unless it is the last. A token that never queries has a row of zeros.

    Returns:
        (V, L), rows sum to one.
    """
    N, L = shape.numbers, shape.list_length
    v, rank = np.arange(N)[:, None], np.arange(L - 1)[None]
    weight = np.zeros((N + 1, L))
    # `rank` of the other L − 1 numbers lie below v
    weight[:N, 1:] = hypergeom.pmf(rank, N - 1, v, L - 1)
    weight[N, 0] = 1
    return weight / np.maximum(weight.sum(1, keepdims=True), np.finfo(float).tiny)


def effective_rank(singular_values: Tensor) -> Tensor:
    """exp(entropy of σ_i / Σσ) over the last axis (Roy & Vetterli 2007).

    Between 1 and the number of dimensions.
    """
    p = singular_values / singular_values.sum(-1, keepdim=True).clamp_min(
        torch.finfo(singular_values.dtype).tiny
    )
    return torch.special.entr(p).sum(-1).exp()


def ov_rank(params: Mapping[str, Tensor]) -> Tensor:
    """Effective rank of each head's W_V W_O: (H,)."""
    return effective_rank(_singular_values(params[ATTN + "W_V"], params[ATTN + "W_O"]))


def qk_rank(params: Mapping[str, Tensor]) -> Tensor:
    """Effective rank of each head's W_Q W_Kᵀ: (H,)."""
    return effective_rank(_singular_values(params[ATTN + "W_Q"], params[ATTN + "W_K"].mT))


def residual_rank(resid: Tensor) -> Tensor:
    """Effective rank of a cloud of vectors (…, D) about their mean.

    Computed from the square roots of its PCA eigenvalues; NaN if a vector is not finite.
    """
    x = _to_unit(resid.flatten(0, -2), (0, 1))
    x = x - x.mean(0)
    if not x.isfinite().all():
        return x.new_full((), torch.nan)
    return effective_rank(torch.linalg.eigvalsh(x.T @ x).clamp_min(0).sqrt())


def _singular_values(a: Tensor, b: Tensor) -> Tensor:
    """Singular values of each product a b, up to scale: (H, min(n, m)); NaN if it is not finite."""
    product = _to_unit(a, (1, 2)) @ _to_unit(b, (1, 2))
    finite = product.isfinite().all((1, 2))
    values = torch.linalg.svdvals(product.where(finite[:, None, None], 0.0))
    return values.where(finite[:, None], torch.nan)


def _to_unit(x: Tensor, dims: tuple[int, ...]) -> Tensor:
    """x divided by its largest absolute entry along `dims`.

    Ranks do not depend on the scale, but squares of huge numbers overflow.
    """
    return x / x.abs().amax(dims, keepdim=True).clamp_min(torch.finfo(x.dtype).tiny)


def head_norms(params: Mapping[str, Tensor]) -> Tensor:
    """Frobenius norm of all weights of each head, Q, K, V and O together: (H,)."""
    return sum(params[f"{ATTN}W_{m}"].double().square().sum((1, 2)) for m in "QKVO").sqrt().float()


def weight_norm(params: Mapping[str, Tensor]) -> float:
    """Euclidean norm of all parameters together, without masks and other buffers."""
    weights = (
        p for name, p in params.items() if name.rsplit(".", 1)[-1].split("_")[0] in ("W", "b", "w")
    )
    return float(sum(p.double().square().sum() for p in weights) ** 0.5)
