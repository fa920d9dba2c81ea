"""Copy-suppression in GPT-2 style models, read from the weights.

The method follows McDougall et al. 2023, arXiv 2310.04625. For each head and each token s of the
vocabulary:

    OV   Is s the token whose logit falls most when the head attends to s?
         argmin_t  LN(E_s) W_V W_O · U_t = s
    QK   Does a query that predicts s attend to s rather than to other tokens?
         argmax_k  LN(U_s) W_Q · LN(E_k) W_K = s

E_s is the effective embedding: token s after the first block's MLP without attention, or in layer 0
the embedding itself. U_s is the unembedding, with the final layer norm's gain and centring folded
in for OV. Positions are left out. A head's score is the geometric mean of two shares of tokens:
those for which OV answers yes, and those for which QK does. In GPT-2 small the published answer is
head 10.7 (layer 10, head 7).
"""

import os
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from devsort.sorting.heads.gpt2_files import load_gpt2

if TYPE_CHECKING:
    from transformers import GPT2LMHeadModel

CHUNK = 512  # tokens whose logits are in memory at once: 100 MB with GPT-2's vocabulary
# the most frequent tokens come first in GPT-2's vocabulary; more are slower, with the same result
TOKENS = 5000


def rank_heads(folder: str | os.PathLike, tokens: int = TOKENS) -> dict[str, Any]:
    """Ranks all heads of a GPT-2 in a local folder by how much they suppress what they attend to.

    Returns:
        {"model", "tokens", "heads": [{"layer", "head", "score", "suppressed_share",
        "attended_share"}]}, best first.

    Raises:
        UserError: The folder holds no GPT-2 that can be read safely, see `gpt2_files`.
    """
    model = load_gpt2(folder)
    rows = [
        row for layer in range(model.config.n_layer) for row in layer_scores(model, layer, tokens)
    ]
    heads = sorted(rows, key=lambda row: -row["score"])
    return {"model": str(folder), "tokens": min(tokens, model.config.vocab_size), "heads": heads}


@torch.inference_mode()
def layer_scores(
    model: "GPT2LMHeadModel", layer: int, tokens: int = TOKENS
) -> Iterator[dict[str, Any]]:
    """Copy-suppression of each head of a layer, on the first `tokens` tokens of the vocabulary."""
    block, heads = model.transformer.h[layer], model.config.n_head
    embedding = effective_embedding(model, layer, tokens)
    source = layer_norm(embedding, block.ln_1)
    unembedding = folded_unembedding(model)[:tokens]  # (V, D)
    weights = head_weights(block.attn, heads)
    for head in range(heads):
        w = {name: value[head] for name, value in weights.items()}
        output = source @ w["V"] @ w["O"]  # (V, D)
        query = layer_norm(model.lm_head.weight[:tokens], block.ln_1) @ w["Q"] + w["b_Q"]
        suppressed_share = hits(-(output - output.mean(0)), unembedding)
        attended_share = hits(query, source @ w["K"])
        yield {
            "layer": layer,
            "head": head,
            "score": (suppressed_share * attended_share) ** 0.5,
            "suppressed_share": suppressed_share,
            "attended_share": attended_share,
        }


def effective_embedding(model: "GPT2LMHeadModel", layer: int, tokens: int) -> Tensor:
    """Tokens as layer `layer` sees them: wte + MLP_0(LN_2(wte)), or wte in layer 0. (tokens, D)"""
    embedding = model.transformer.wte.weight[:tokens]
    first = model.transformer.h[0]
    return embedding + first.mlp(first.ln_2(embedding)) if layer > 0 else embedding


def folded_unembedding(model: "GPT2LMHeadModel") -> Tensor:
    """The unembedding with the final layer norm's gain and centring folded in: (V, D)."""
    gained = model.lm_head.weight * model.transformer.ln_f.weight
    return gained - gained.mean(-1, keepdim=True)


def head_weights(attention: torch.nn.Module, heads: int) -> Mapping[str, Tensor]:
    """W_Q, W_K, W_V (H, D, d), b_Q (H, d) and W_O (H, d, D) of a GPT-2 attention block."""
    # (H, D, d) each
    q, k, v = attention.c_attn.weight.unflatten(-1, (3, heads, -1)).permute(1, 2, 0, 3)
    bias = attention.c_attn.bias.unflatten(-1, (3, heads, -1))[0]
    return {
        "Q": q,
        "K": k,
        "V": v,
        "b_Q": bias,
        "O": attention.c_proj.weight.unflatten(0, (heads, -1)),
    }


def layer_norm(x: Tensor, norm: torch.nn.LayerNorm) -> Tensor:
    """LN(x) with a layer's gain; its bias shifts all tokens equally and is left out."""
    return torch.nn.functional.layer_norm(x, norm.normalized_shape, norm.weight, None, norm.eps)


def hits(rows: Tensor, columns: Tensor) -> float:
    """Share of rows i (V, D) whose largest product with a column (V, D) is with column i."""
    best = torch.cat([(chunk @ columns.T).argmax(-1) for chunk in rows.split(CHUNK)])
    return (best == torch.arange(len(rows), device=rows.device)).float().mean().item()
