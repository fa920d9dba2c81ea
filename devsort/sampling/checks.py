"""Checks a loss before it is sampled, and finds out how it can be computed.

A loss must return the same values each time, and must not be a sum over the batch. How it is
computed depends on two more questions: can vmap map it, and does the loss of each example depend on
that example alone?
"""

import random  # noqa: TID251  its state is saved and restored, nothing is drawn
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils._pytree import tree_map

from devsort.errors import UserError
from devsort.rng import torch_stream
from devsort.sampling.lanes import plain_attention
from devsort.sampling.losses import Loss, adds_up, losses_of, value_at
from devsort.sampling.modules import Params

NUDGE = 0.01  # relative size of the change of the weights that avoids a loss of zero
TOLERANCE = {"rtol": 1e-3, "atol": 1e-5}  # between two computations of the same losses


@dataclass(frozen=True)
class Traits:
    """How a loss can be computed.

    Attributes:
        by_example: Whether it returns a loss for each example.
        own_rows: Whether the loss of an example depends on that example alone.
        refusal: Why vmap cannot map it; empty if it can.
    """

    by_example: bool
    own_rows: bool
    refusal: str


@contextmanager
def generators_kept(device: torch.device) -> Iterator[None]:
    """Restores the global random generators, in case the loss draws from them."""
    plain, legacy = random.getstate(), np.random.get_state()  # noqa: NPY002
    devices = [device] if device.type == "cuda" else []
    try:
        with torch.random.fork_rng(devices=devices):
            yield
    finally:
        random.setstate(plain)
        np.random.set_state(legacy)  # noqa: NPY002


@contextmanager
def gradient_errors() -> Iterator[None]:
    """Turns torch's error for a gradient that it cannot compute into a `UserError`."""
    try:
        yield
    except (RuntimeError, TypeError, NotImplementedError) as e:
        fix = "use operations that torch.autograd.grad can differentiate"
        if "checkpoint" in str(e):
            fix = "turn activation checkpointing off"
        raise UserError(f"the gradient of the loss fails ({_reason(e)})", fix) from e


def traits_of(
    loss: Loss, state: Params, free: tuple[str, ...], batch: Any, rows: int | None
) -> Traits:
    """Checks a loss at a checkpoint and returns how it can be computed.

    Args:
        loss: The user's loss.
        state: All tensors of the checkpoint.
        free: Names of the parameters that are sampled.
        batch: Some examples, or None if there is no data.
        rows: The number of examples in the batch.

    Raises:
        UserError: If the loss fails, is random, is a sum over the examples, or does not return
            losses.
    """
    with torch.no_grad():
        first = _called(loss, state, batch, rows)
        _check_repeats(first, loss, state, batch, rows)
        if rows is not None and _sums(loss, _nudged(state, free), batch, rows):
            what = "the loss is a sum over the batch: twice the examples give twice the loss"
            raise UserError(what, "return the mean, or the loss of each example")
        by_example = rows is not None and first.dim() > 0
        own_rows = (
            rows is not None and by_example and _rows_are_alone(first, loss, state, batch, rows)
        )
        return Traits(by_example, own_rows, _refusal(first, loss, state, free, batch, rows))


def _called(loss: Loss, state: Params, batch: Any, rows: int | None) -> Tensor:
    """Calls the loss. Reports an exception of the user's code in one line, with its traceback."""
    try:
        value = loss(state) if rows is None else loss(state, batch)
    except UserError:
        raise
    except Exception as e:
        raise UserError(f"the loss fails ({_reason(e)})", _remedy(e, loss)) from e
    return losses_of(value, rows)


def _check_repeats(first: Tensor, loss: Loss, state: Params, batch: Any, rows: int | None) -> None:
    again = value_at(loss, state, batch, rows)
    if not torch.allclose(first, again, equal_nan=True, **TOLERANCE):
        what = (
            "the loss is random: for the same weights and examples it returned "
            f"{float(first.mean()):.6g} and {float(again.mean()):.6g}"
        )
        raise UserError(what, "turn off everything that draws random numbers, such as dropout")


def _sums(loss: Loss, state: Params, batch: Any, rows: int) -> bool:
    try:
        return adds_up(loss, state, batch, tree_map(lambda t: torch.cat([t, t]), batch), rows)
    except UserError:
        raise
    except Exception:  # a loss that accepts only a fixed number of examples
        return False


def _rows_are_alone(first: Tensor, loss: Loss, state: Params, batch: Any, rows: int) -> bool:
    """Whether half of the examples, in reverse order, have the same losses as in the full batch."""
    half = torch.arange((rows + 1) // 2 - 1, -1, -1)
    try:
        part = tree_map(lambda t: t[half.to(t.device)], batch)
        losses = value_at(loss, state, part, len(half))
    except Exception:
        return False
    expected = first[half.to(first.device)]
    return losses.shape == expected.shape and torch.allclose(
        losses, expected, equal_nan=True, **TOLERANCE
    )


def _refusal(
    first: Tensor, loss: Loss, state: Params, free: Sequence[str], batch: Any, rows: int | None
) -> str:
    """Returns why vmap cannot be used for the loss; empty if it can.

    Either vmap fails for the loss or its gradient, or its results differ from those of a plain
    call.
    """
    lanes = {name: torch.stack([state[name]] * 2).requires_grad_() for name in free}
    rest = {name: t for name, t in state.items() if name not in lanes}
    own = None if rows is None else tree_map(lambda t: torch.stack([t, t]), batch)
    mapped = torch.func.vmap(
        lambda lane, own: value_at(loss, {**rest, **lane}, own, rows),
        in_dims=(0, None if rows is None else 0),
    )
    try:
        # vmap warns about operations that it maps one by one
        with torch.enable_grad(), plain_attention(), warnings.catch_warnings(action="ignore"):
            losses = mapped(lanes, own)
            if losses.requires_grad:
                torch.autograd.grad(losses.sum(), list(lanes.values()), allow_unused=True)
    except Exception as e:  # vmap raises many kinds of errors for what it does not support
        return _reason(e).partition(". ")[0]
    same = torch.allclose(losses[1].detach(), first, equal_nan=True, **TOLERANCE)
    return "" if same else "its results differ from those of a plain call"


def _nudged(state: Params, free: tuple[str, ...]) -> Params:
    """Returns the checkpoint with its free parameters changed slightly."""
    moved = dict(state)
    for i, name in enumerate(free):
        value = state[name]
        noise = torch.randn(value.shape, generator=torch_stream(0, "nudge", i), dtype=value.dtype)
        scale = float(value.abs().mean()) or 1.0
        moved[name] = value + NUDGE * scale * noise.to(value.device)
    return moved


def _reason(e: Exception) -> str:
    text = str(e).strip()
    line = text.splitlines()[0][:160] if text else ""
    return f"{type(e).__name__}: {line}" if line else type(e).__name__


def _remedy(e: Exception, loss: Any) -> str:
    text = str(e)
    takes_a_model = "'dict' object is not callable" in text
    if takes_a_model or isinstance(loss, tuple | torch.nn.Module):
        return "give `module_loss(module, loss)[0]` as the loss"
    if "dtype" in text or "same type" in text or "scalar type" in text:
        if any(integer in text for integer in ("Long", "Int", "Byte", "Bool")):
            return "give as floats what the module multiplies, and as int64 what it looks up"
        return (
            "remove casts from the forward pass: weights and floating-point data have the same "
            "type, which is float32 for 16-bit weights"
        )
    return "call it yourself on the parameters and a few rows of the data"
