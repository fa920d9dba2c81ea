"""The model: one causal attention layer without an MLP, written to be read.

`kernels` has a fast version of it.

    resid_pre = W_E[token] + W_pos[position]                          (B, 2L, D)
    y         = LN_1(resid_pre)
    q, k, v   = y W_Q + b_Q, y W_K + b_K, y W_V + b_V                 of each head
    pattern   = softmax(q kᵀ / sqrt(d_head)), causal                  (B, H, L, 2L)
    head_out  = pattern v W_O                                         (B, H, L, D)
    logits    = LN_f(resid_pre + Σ_h head_out_h + b_O) W_U + b_U      (B, L, V)

Only the L answer positions (SEP and b_1 … b_{L−1}) have queries, because in a one-layer model no
other position affects the loss. Parameters are a dict with the names of TransformerLens's
`HookedTransformer` state dict.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from devsort.errors import UserError
from devsort.rng import name_key, short_torch_stream
from devsort.sorting.config import ModelConfig, TaskConfig

LN_EPS = 1e-5  # as in HookedTransformer
ATTN = "blocks.0.attn."
DEEPER, WITH_MLP = "has more than one layer", "has an MLP"
Params = dict[str, Tensor]


@dataclass(frozen=True)
class Shape:
    """The dimensions of one model: L, N, H, D, d_head, and whether there is layer norm."""

    list_length: int
    numbers: int
    heads: int
    d_model: int
    d_head: int
    layer_norm: bool

    @property
    def vocab(self) -> int:
        """V = N + 1, the numbers and SEP."""
        return self.numbers + 1

    @property
    def context(self) -> int:
        """2L + 1 positions."""
        return 2 * self.list_length + 1


@dataclass(frozen=True)
class Activations:
    """What a forward pass computes before the unembedding.

    Attributes:
        resid_pre: (B, L, D), token plus position at the answer positions.
        pattern: (B, H, L, 2L), attention from answer position L+i to position j.
        head_out: (B, H, L, D), what each head adds to the residual stream, without b_O.
    """

    resid_pre: Tensor
    pattern: Tensor
    head_out: Tensor


def model_shape(task: TaskConfig, model: ModelConfig) -> Shape:
    """The dimensions that a config asks for."""
    return Shape(
        task.list_length, task.numbers, model.heads, model.d_model, model.d_head, model.layer_norm
    )


def param_shapes(shape: Shape) -> dict[str, tuple[int, ...]]:
    """Name and shape of every parameter, under HookedTransformer's names."""
    H, D, d, V = shape.heads, shape.d_model, shape.d_head, shape.vocab
    norm = {"w": (D,), "b": (D,)} if shape.layer_norm else {}
    weights = {f"W_{m}": (H, D, d) for m in "QKV"} | {"W_O": (H, d, D)}
    biases = {f"b_{m}": (H, d) for m in "QKV"} | {"b_O": (D,)}
    return (
        {"embed.W_E": (V, D), "pos_embed.W_pos": (shape.context, D)}
        | {f"blocks.0.ln1.{k}": s for k, s in norm.items()}
        | {ATTN + k: s for k, s in (weights | biases).items()}
        | {f"ln_final.{k}": s for k, s in norm.items()}
        | {"unembed.W_U": (D, V), "unembed.b_U": (V,)}
    )


def init_params(shape: Shape, init_scale: float, seed: int) -> Params:
    """Weights W ~ N(0, init_scale² / D), biases 0, layer-norm gains 1.

    That is HookedTransformer's "gpt2" mode.

    Each parameter draws from its own stream, so models that differ in the number of heads share all
    other weights.
    """

    def init(name: str, size: tuple[int, ...]) -> Tensor:
        leaf = name.rsplit(".", 1)[1]
        if leaf.startswith("W_"):
            generator = short_torch_stream(seed, "init", name_key(name))
            return torch.randn(size, generator=generator) * (init_scale / math.sqrt(shape.d_model))
        return torch.ones(size) if leaf == "w" else torch.zeros(size)

    return {name: init(name, size) for name, size in param_shapes(shape).items()}


def equal_heads(params: Params) -> Params:
    """Weights with every head a copy of the first; equal gradients keep the heads equal."""
    return {
        name: value[:1].expand_as(value).clone() if _of_heads(name) else value
        for name, value in params.items()
    }


def _of_heads(name: str) -> bool:
    return name.startswith(ATTN) and name != ATTN + "b_O"


def infer_shape(
    params: Mapping[str, Tensor], list_length: int, numbers: int, where: str = "weights"
) -> Shape:
    """Reads heads and widths off a state dict and checks every parameter against them.

    Raises:
        UserError: A parameter is missing, has another shape, or is not finite; the message lists
            the first problems.
    """
    W_Q = params.get(ATTN + "W_Q")
    if W_Q is None or W_Q.dim() != 3 or 0 in W_Q.shape:
        got = "missing" if W_Q is None else f"of shape {tuple(W_Q.shape)}"
        raise UserError(
            f"{where}: {ATTN}W_Q is {got}, expected (heads, d_model, d_head)",
            "give a one-layer HookedTransformer state dict",
        )
    heads, d_model, d_head = W_Q.shape
    layer_norm = any(name.startswith(("blocks.0.ln1.", "ln_final.")) for name in params)
    shape = Shape(list_length, numbers, heads, d_model, d_head, layer_norm)
    problems = list(_misfits(params, param_shapes(shape)))
    if problems:
        more = f" and {len(problems) - 4} more" if len(problems) > 4 else ""
        fix = "check the file, list length and numbers"
        if {DEEPER, WITH_MLP} & set(problems):
            fix = "give a network of one layer without an MLP"
        raise UserError(f"{where}: {', '.join(problems[:4])}{more}", fix)
    return shape


def _misfits(params: Mapping[str, Tensor], expected: dict[str, tuple[int, ...]]):
    if any(name.startswith("blocks.1.") for name in params):
        yield DEEPER
    if any(name.startswith(("blocks.0.mlp.", "blocks.0.ln2.")) for name in params):
        yield WITH_MLP
    for name, size in expected.items():
        if name not in params:
            yield f"{name} is missing"
        elif tuple(params[name].shape) != size:
            yield f"{name} has shape {tuple(params[name].shape)}, expected {size}"
        elif not params[name].is_floating_point() or not torch.isfinite(params[name]).all():
            yield f"{name} holds values that are not finite floats"


def activations(params: Mapping[str, Tensor], tokens: Tensor) -> Activations:
    """Runs the model up to the heads' outputs.

    Args:
        params: State dict, see `param_shapes`.
        tokens: (B, 2L+1) or (B, 2L); the last answer is never an input.
    """
    L = tokens.shape[1] // 2
    # (B, 2L, D)
    resid = params["embed.W_E"][tokens[:, : 2 * L]] + params["pos_embed.W_pos"][: 2 * L]
    y = layer_norm(resid, params.get("blocks.0.ln1.w"), params.get("blocks.0.ln1.b"))
    q = _project(y[:, L:], params, "Q")  # (B, H, L, d)
    k, v = _project(y, params, "K"), _project(y, params, "V")  # (B, H, 2L, d)
    scores = q @ k.mT / math.sqrt(q.shape[-1])  # (B, H, L, 2L)
    pattern = scores.masked_fill(future_mask(L, tokens.device), -torch.inf).softmax(-1)
    # far faster than @
    head_out = torch.einsum("bhld,hdm->bhlm", pattern @ v, params[ATTN + "W_O"])
    return Activations(resid[:, L:], pattern, head_out)


def unembed(params: Mapping[str, Tensor], resid: Tensor) -> Tensor:
    """Logits of a residual stream (…, D) → (…, V), final layer norm included."""
    y = layer_norm(resid, params.get("ln_final.w"), params.get("ln_final.b"))
    return y @ params["unembed.W_U"] + params["unembed.b_U"]


def forward(params: Mapping[str, Tensor], tokens: Tensor) -> Tensor:
    """Logits (B, L, V) at the answer positions."""
    a = activations(params, tokens)
    return unembed(params, a.resid_pre + a.head_out.sum(1) + params[ATTN + "b_O"])


def losses(params: Mapping[str, Tensor], tokens: Tensor, targets: Tensor) -> Tensor:
    """Cross-entropy in nats of each list, mean over its L answers: (B,)."""
    logits = forward(params, tokens)
    return (
        F.cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="none")
        .view(targets.shape)
        .mean(1)
    )


def layer_norm(x: Tensor, w: Tensor | None, b: Tensor | None) -> Tensor:
    """LN(x) = (x − mean) / sqrt(var + 1e-5) · w + b over the last axis; without w, the identity."""
    return x if w is None else F.layer_norm(x, w.shape, w, b, LN_EPS)


def future_mask(list_length: int, device: torch.device | str = "cpu") -> Tensor:
    """(L, 2L) bool, true where the key at position j lies after the query at position L + i."""
    query = torch.arange(list_length, device=device)[:, None] + list_length
    return torch.arange(2 * list_length, device=device) > query


def _project(y: Tensor, params: Mapping[str, Tensor], which: str) -> Tensor:
    return (
        torch.einsum("bpd,hde->bhpe", y, params[f"{ATTN}W_{which}"])
        + params[f"{ATTN}b_{which}"][:, None]
    )
