"""Reads a one-layer network from someone else's file, and notes what was assumed.

The names are those of TransformerLens's `HookedTransformer`, for lists of L numbers out of N:

    embed.W_E (N+1, D)          pos_embed.W_pos (2L+1 or more, D)    unembed.W_U (D, N+1), b_U
    blocks.0.attn.W_Q, W_K, W_V (H, D, d), b_Q, b_K, b_V (H, d)      W_O (H, d, D), b_O (D,)
    blocks.0.ln1.w, .b, ln_final.w, .b (D,), or none of these four

Token N is SEP. Scores are divided by sqrt(d). Prefixes that wrappers add to these names are
removed. If the four are missing, the file does not say whether the network has no layer norm, or
one whose gain and bias were folded into the weights (TransformerLens's LNPre).
"""

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from devsort.errors import UserError
from devsort.sorting.config import TaskConfig
from devsort.sorting.model import ATTN, Params, Shape, infer_shape, losses, param_shapes
from devsort.sorting.task import eval_batch
from devsort.storage.weights import load_weights, under_names

NORMS = ("blocks.0.ln1", "ln_final")
Norm = Literal["auto", "file", "folded", "none"]  # where the layer norms' gains and biases are
# relative to a uniform guess's loss: the lowest loss near chance, and the smallest difference in
# loss that decides between two readings
NEAR_CHANCE, APART = 0.75, 0.25


@dataclass(frozen=True)
class Network:
    """A network that was read from a file, with notes on how it was read.

    Attributes:
        params: Parameters, see `devsort.sorting.model.param_shapes`.
        shape: Their dimensions.
        norm: How layer norm was read: file, folded or none.
        notes: What was assumed or left out, one sentence each.
    """

    params: Params
    shape: Shape
    norm: Norm
    notes: tuple[str, ...]


def read_network(path: str | os.PathLike, task: TaskConfig, norm: Norm = "auto") -> Network:
    """Reads a one-layer network that sorts the lists of a task; nothing in the file is executed.

    Args:
        path: See `load_weights`.
        task: Gives the lists. If the file does not say whether there is layer norm, the reading
            with the lower loss on them is taken, provided that it is clearly lower.
        norm: Where the layer norms' gains and biases are, if not decided so.

    Raises:
        UserError: The file cannot be read safely, its parameters do not fit each other or L and N,
            some of them are unknown, it contradicts `norm`, or `norm` must be given.
    """
    path = Path(path)
    params = _without_buffers(under_names(load_weights(path), f"{ATTN}W_Q", path))
    _refuse_gains_alone(params, path)
    params, cut = _in_context(params, 2 * task.list_length + 1)
    shape = infer_shape(params, task.list_length, task.numbers, str(path))
    _refuse_unknown(params, shape, path)
    params, norm, assumed = _normed(params, task, norm, path)
    return Network(params, replace(shape, layer_norm=norm != "none"), norm, (*cut, *assumed))


def near_chance(loss: float, task: TaskConfig) -> tuple[str, ...]:
    """A note if a loss in nats is near that of a uniform guess over the N + 1 tokens."""
    chance = math.log(task.numbers + 1)
    if loss < NEAR_CHANCE * chance:  # false for NaN
        return ()
    return (
        f"the loss, {loss:.3g} nats, is near or above that of a uniform guess, {chance:.3g}: the"
        " network may have been read wrongly; check --norm, --list-length, --numbers, and that SEP"
        f" is the last token, {task.numbers}",
    )


def _in_context(params: Params, context: int) -> tuple[Params, tuple[str, ...]]:
    """Cuts the position table to the context; later positions are never used."""
    table = params.get("pos_embed.W_pos", torch.empty(0))
    if table.dim() == 0 or len(table) <= context:
        return params, ()
    note = f"the file has {len(table)} positions, of which the first {context} are used"
    return {**params, "pos_embed.W_pos": table[:context]}, (note,)


def _without_buffers(params: Mapping[str, Tensor]) -> Params:
    """Leaves out the buffers that HookedTransformer saves with a causal network."""
    mask = params.get(f"{ATTN}mask", torch.empty(0, 0))
    causal = mask.dim() == 2 and torch.equal(mask, torch.ones_like(mask).tril())
    buffers = (f"{ATTN}IGNORE", f"{ATTN}mask") if causal else (f"{ATTN}IGNORE",)
    return {name: value for name, value in params.items() if name not in buffers}


def _refuse_unknown(params: Params, shape: Shape, path: Path) -> None:
    """Refuses unknown parameters: they could change what the network does."""
    unknown = sorted(params.keys() - param_shapes(shape).keys())
    if unknown:
        more = f" and {len(unknown) - 4} more" if len(unknown) > 4 else ""
        what = f"{path} holds weights that are not understood: {', '.join(unknown[:4])}{more}"
        raise UserError(what, "fold them into the others, or leave them out if they do nothing")


def _refuse_gains_alone(params: Params, path: Path) -> None:
    """Refuses norms that have a gain but no bias."""
    alone = [n for n in NORMS if f"{n}.w" in params and f"{n}.b" not in params]
    if alone:
        what = f"{path}: a gain without a bias, as in RMS norm: {' and '.join(alone)}"
        raise UserError(what, "RMS norm is not supported; if it is layer norm, add a bias of zeros")


def _normed(
    params: Params, task: TaskConfig, norm: Norm, path: Path
) -> tuple[Params, Norm, tuple[str, ...]]:
    """The parameters, with gains and biases if there is layer norm, and what was assumed."""
    written = any(name.startswith(NORMS) for name in params)
    if norm != "auto" and written != (norm == "file"):
        what = f"{path} has {'' if written else 'no '}gains and biases of layer norms"
        fix = "leave out --norm, or check the file"
        raise UserError(f"{what}, which contradicts --norm {norm}", fix)
    if written:
        return params, "file", ()
    readings: dict[Norm, Params] = {"folded": _with_unit_norms(params), "none": params}
    notes: tuple[str, ...] = ()
    if norm == "auto":
        norm, notes = _by_the_loss(readings, task, path)
    return readings[norm], norm, notes


def _by_the_loss(
    readings: Mapping[Norm, Params], task: TaskConfig, path: Path
) -> tuple[Norm, tuple[str, ...]]:
    """The reading with the lower loss, and a note that says so.

    Raises:
        UserError: Their losses are too close to tell them apart.
    """
    loss = {name: _loss(reading, task) for name, reading in readings.items()}
    both = " and ".join(f"{value:.3g} nats as {name}" for name, value in loss.items())
    best, other = sorted(loss, key=loss.__getitem__)
    if loss[other] - loss[best] >= APART * math.log(task.numbers + 1):  # false for ∞ − ∞
        note = f"the file holds no layer norms: read as --norm {best}, by its lower loss ({both})"
        return best, (note,)
    what = f"{path} holds no layer norms, and the loss does not show if it had any ({both})"
    raise UserError(what, "give --norm folded or --norm none")


def _with_unit_norms(params: Params) -> Params:
    width = params["embed.W_E"].shape[1]
    gains = {f"{name}.w": torch.ones(width) for name in NORMS}
    return {**params, **gains, **{f"{name}.b": torch.zeros(width) for name in NORMS}}


def _loss(params: Params, task: TaskConfig) -> float:
    batch = eval_batch(task)
    with torch.inference_mode():
        value = losses(params, batch.tokens, batch.targets).mean().item()
    return value if math.isfinite(value) else math.inf
