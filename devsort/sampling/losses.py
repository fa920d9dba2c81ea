"""Converts what a loss returns to one form: the losses of the examples, or their mean.

A loss may return a tensor (B,) or (B, T), a mean (), a Hugging Face model output, or a tuple whose
first entry is the loss.
"""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from devsort.errors import UserError
from devsort.sampling.modules import Params

Loss = Callable[..., Any]  # loss(params, batch), or loss(params) if there is no data
GIVE = "return the loss of each example, or their mean"


def losses_of(value: Any, rows: int | None) -> Tensor:
    """Returns the losses (B,) or (B, …) of the examples, or their mean ().

    Args:
        value: The return value of the loss.
        rows: B, the number of examples in the batch; None if there is no data.

    Raises:
        UserError: If the value cannot be interpreted in this way.
    """
    value = _inner(value)
    if not isinstance(value, Tensor):
        raise UserError(f"the loss returns a {type(value).__name__}, expected a tensor", GIVE)
    if not value.is_floating_point():
        raise UserError(f"the loss has type {value.dtype}, expected real numbers", GIVE)
    if value.dim() == 0 or (rows is not None and len(value) == rows):
        return value
    if value.numel() == 1:
        return value.reshape(())
    if rows and value.dim() == 1 and len(value) % rows == 0:
        return value.unflatten(0, (rows, -1))  # the tokens of all examples, one after another
    shape = tuple(value.shape)
    if rows is None:
        what = f"the loss of one lane has shape {shape}, expected a scalar"
        raise UserError(what, "return its mean")
    raise UserError(f"the loss of {rows} examples has shape {shape}", GIVE)


def means(losses: Tensor, lead: int = 1) -> Tensor:
    """Returns the means over all but the leading axes."""
    return losses.flatten(lead).mean(-1) if losses.dim() > lead else losses


def value_at(loss: Loss, params: Params, batch: Any, rows: int | None) -> Tensor:
    """Returns the losses at some parameters, in the form of `losses_of`."""
    return losses_of(loss(params) if rows is None else loss(params, batch), rows)


def _inner(value: Any) -> Any:
    if isinstance(value, tuple | list) and value:
        return _inner(value[0])
    inner = value.get("loss") if isinstance(value, Mapping) else getattr(value, "loss", value)
    if inner is None:
        fix = "return the loss; a Hugging Face model needs `labels`"
        raise UserError("the loss returns None", fix)
    return inner


def adds_up(loss: Loss, params: Params, batch: Any, twice: Any, rows: int) -> bool:
    """Whether a loss is a sum over the batch: twice the examples give twice the loss.

    Args:
        loss: The loss.
        params: Parameters at which the loss is not zero.
        batch: Some examples.
        twice: The same examples, each of them twice.
        rows: The number of examples in `batch`.
    """
    once = value_at(loss, params, batch, rows)
    both = value_at(loss, params, twice, 2 * rows)
    if once.dim() or not torch.isfinite(once) or once == 0:
        return False
    return bool(abs(both / once - 2) < SAME)


SAME = 1e-3  # relative difference that rounding can explain
