"""Exact symmetries of the sorting model: moves to other weights with the same function.

With n(x) the layer norm without gain and bias, logits are n(x + Σ_h z_h W_O + b_O) diag(g) W_U + …;
the moves are

| move        | weights                                                                         |
|-------------|---------------------------------------------------------------------------------|
| stream      | W_E, W_pos, W_O, b_O × α; without layer norm W_Q, W_K, W_V, W_U / α as well     |
| ov          | W_V, b_V of a head × β, its W_O / β                                             |
| qk          | W_Q, b_Q of a head × κ, its W_K, b_K / κ                                        |
| ln1         | gain and bias of ln1 × g, W_Q, W_K, W_V / g                                     |
| ln_final    | gain and bias of ln_final × g, W_U / g                                          |
| heads       | a permutation of the heads                                                      |
| head-basis  | W_V, b_V → · R, W_O → Rᵀ · in each head; W_Q, b_Q, W_K, b_K → · R'              |
| basis       | a rotation of the residual stream that keeps its mean; gains must be constant   |

All but `stream` leave the function exactly unchanged. Layer norm divides by sqrt(var + 1e-5), so
`stream` leaves it unchanged as long as the variance is far above 1e-5 at both scales;
`stream_variance` gives that variance.
"""

import torch
from torch import Tensor

from devsort.errors import UserError
from devsort.sorting.model import ATTN, LN_EPS, Params

LN1, LNF = "blocks.0.ln1.", "ln_final."
SCALINGS = ("stream", "ov", "qk", "ln1", "ln_final")


def scaled(params: Params, move: str, factor: float, head: int | None = None) -> Params:
    """The same function with one of SCALINGS applied.

    Args:
        params: Weights; they are not changed.
        move: One of SCALINGS.
        factor: α, β, κ or g, positive.
        head: The head of `ov` and `qk`; None: all.

    Raises:
        UserError: The move needs layer norm, and the model has none.
    """
    if move in ("ln1", "ln_final") and not has_norms(params):
        raise UserError(f"move {move!r} needs layer norm", "choose stream, ov or qk")
    up, down = {
        "stream": (
            ("embed.W_E", "pos_embed.W_pos", ATTN + "W_O", ATTN + "b_O"),
            () if has_norms(params) else (*(ATTN + f"W_{m}" for m in "QKV"), "unembed.W_U"),
        ),
        "ov": ((ATTN + "W_V", ATTN + "b_V"), (ATTN + "W_O",)),
        "qk": ((ATTN + "W_Q", ATTN + "b_Q"), (ATTN + "W_K", ATTN + "b_K")),
        "ln1": ((LN1 + "w", LN1 + "b"), tuple(ATTN + f"W_{m}" for m in "QKV")),
        "ln_final": ((LNF + "w", LNF + "b"), ("unembed.W_U",)),
    }[move]
    only = head if move in ("ov", "qk") else None
    return {
        name: _times(value, factor if name in up else 1 / factor if name in down else None, only)
        for name, value in params.items()
    }


def permuted(params: Params, order: list[int]) -> Params:
    """The same function with the heads in another order."""
    per_head = {ATTN + f"W_{m}" for m in "QKVO"} | {ATTN + f"b_{m}" for m in "QKV"}
    return {n: p[order] if n in per_head else p.clone() for n, p in params.items()}


def head_basis(params: Params, generator: torch.Generator) -> Params:
    """The same function with the queries, keys and values of each head in other orthonormal bases.

    Queries and keys share a basis.
    """
    moved = dict(params)
    H, _, d = params[ATTN + "W_Q"].shape
    for matrices, last in ((("Q", "K"), None), (("V",), "O")):
        R = torch.stack([_rotation(d, generator) for _ in range(H)])  # (H, d, d)
        for m in matrices:
            moved[ATTN + f"W_{m}"] = _product(params[ATTN + f"W_{m}"], R)
            moved[ATTN + f"b_{m}"] = _product(params[ATTN + f"b_{m}"][:, None], R)[:, 0]
        if last:
            moved[ATTN + "W_O"] = _product(R.mT, params[ATTN + "W_O"])
    return moved


def basis(params: Params, generator: torch.Generator) -> Params:
    """The same function with the residual stream in another basis.

    The change of basis leaves the direction of the mean fixed.

    Raises:
        UserError: A norm's gain is not constant, so it singles out a basis; `folded` removes it.
    """
    D = params["embed.W_E"].shape[1]
    gains = [params[n + "w"] for n in (LN1, LNF)] if has_norms(params) else []
    if any(float((g - g.mean()).abs().max()) > 1e-6 * float(g.abs().max()) for g in gains):
        raise UserError(
            "a norm's gain is not constant, so rotations change the function",
            "fold the gains first",
        )
    R = _rotation_around_the_mean(D, generator)
    moved = dict(params)
    for name in ("embed.W_E", "pos_embed.W_pos", ATTN + "W_O"):
        moved[name] = _product(params[name], R)
    vectors = [ATTN + "b_O", *(n + "b" for n in (LN1, LNF) if has_norms(params))]
    for name in vectors:
        moved[name] = _product(params[name][None], R)[0]
    for name in (*(ATTN + f"W_{m}" for m in "QKV"), "unembed.W_U"):
        moved[name] = _product(R.mT, params[name])
    return moved


def folded(params: Params) -> Params:
    """The same function with gains 1 and biases 0 in both norms.

    Their effect is folded into the weights that follow them.
    """
    moved = dict(params)
    for norm, pairs in (
        (LN1, [(ATTN + f"W_{m}", ATTN + f"b_{m}") for m in "QKV"]),
        (LNF, [("unembed.W_U", "unembed.b_U")]),
    ):
        g, b = params[norm + "w"], params[norm + "b"]
        for weight, bias in pairs:
            W = params[weight]
            moved[weight] = W * g[:, None]
            moved[bias] = params[bias] + torch.einsum("d,...de->...e", b, W)
        moved[norm + "w"], moved[norm + "b"] = torch.ones_like(g), torch.zeros_like(b)
    return moved


def random_move(
    params: Params, generator: torch.Generator, stream: bool = True, plain: bool = False
) -> tuple[str, Params]:
    """All scalings at once, each head by its own factor, heads permuted, head bases rotated.

    Args:
        params: Weights.
        generator: Draws factors log-uniformly from 0.2 to 5.
        stream: Whether `stream` is among them.
        plain: Apply scalings only; the heads keep their order and their bases.

    Returns:
        A description of the moves, and the new weights.
    """
    H = len(params[ATTN + "W_Q"])
    moves: list[tuple[str, int | None]] = [(m, h) for m in ("ov", "qk") for h in range(H)]
    moves += [(m, None) for m in ("ln1", "ln_final") if has_norms(params)]
    moves += [("stream", None)] if stream else []
    applied, moved = [], params
    for move, head in moves:
        factor = 5 ** float(2 * torch.rand((), generator=generator) - 1)
        moved = scaled(moved, move, factor, head)
        applied.append(f"{move}{'' if head is None else head}×{factor:.2f}")
    if plain:
        return " ".join(applied), moved
    order = torch.randperm(H, generator=generator).tolist()
    return " ".join([*applied, f"heads {order}"]), permuted(head_basis(moved, generator), order)


def stream_variance(params: Params) -> float:
    """Median over tokens and positions of the variance of the stream over its coordinates.

    Layer norm adds ε = 1e-5 to this variance.
    """
    both = params["embed.W_E"][:, None] + params["pos_embed.W_pos"][None]
    return float(both.var(-1, unbiased=False).median())


def lifted(params: Params, share: float = 1e-6, factor: float = 5.0) -> Params:
    """The same function with the stream scaled up so that layer norm's ε does not matter.

    ε is at most `share` of the stream's variance, even after a move by 1/factor.
    """
    alpha = (LN_EPS / share) ** 0.5 * factor / stream_variance(params) ** 0.5
    return scaled(params, "stream", max(1.0, alpha))


def has_norms(params: Params) -> bool:
    """Whether the model has layer norm."""
    return LNF + "w" in params


def _times(value: Tensor, factor: float | None, head: int | None) -> Tensor:
    if factor is None:
        return value.clone()
    if head is None:
        return value * factor
    moved = value.clone()
    moved[head] *= factor
    return moved


def _product(a: Tensor, b: Tensor) -> Tensor:
    """The product, computed in float64 and returned in the dtype of the factor that is a weight."""
    kind = a.dtype if b.dtype == torch.float64 else b.dtype
    return (a.double() @ b.double()).to(kind)


def _rotation(size: int, generator: torch.Generator) -> Tensor:
    """A uniformly random orthogonal matrix, in float64."""
    q, r = torch.linalg.qr(torch.randn(size, size, generator=generator, dtype=torch.float64))
    return q * r.diagonal().sign()


def _rotation_around_the_mean(size: int, generator: torch.Generator) -> Tensor:
    """An orthogonal matrix R with R 1 = Rᵀ 1 = 1."""
    ones = torch.full((size, 1), size**-0.5, dtype=torch.float64)
    rest = torch.randn(size, size - 1, generator=generator, dtype=torch.float64)
    frame = torch.linalg.qr(torch.cat([ones, rest], 1))[0]
    frame[:, 0] *= (frame[:, 0] @ ones[:, 0]).sign()
    inner = torch.block_diag(torch.ones(1, 1, dtype=torch.float64), _rotation(size - 1, generator))
    return frame @ inner @ frame.T
