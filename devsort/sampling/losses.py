"""What a loss gives, brought to one form: the losses of examples, or their mean.

A loss may give a tensor (B,) or (B, T), a mean (), an output of Hugging Face, or a tuple whose
first entry is the loss.
"""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from devsort.errors import UserError
from devsort.sampling.modules import Params

Loss = Callable[..., Any]  # loss(params, batch), or loss(params) where there is no data
GIVE = "return the loss of each example, or their mean"


def losses_of(value: Any, rows: int | None) -> Tensor:
    """The losses (B,) or (B, …) of examples, or a mean ().

    Args:
        value: What the loss gave.
        rows: B, examples in the batch; None where there is no data.

    Raises:
        UserError: It is none of these.
    """
    value = _inner(value)
    if not isinstance(value, Tensor):
        raise UserError(f"the loss gives a {type(value).__name__}, expected a tensor", GIVE)
    if not value.is_floating_point():
        raise UserError(f"the loss has type {value.dtype}, expected real numbers", GIVE)
    if value.dim() == 0 or (rows is not None and len(value) == rows):
        return value
    if value.numel() == 1:
        return value.reshape(())
    if rows and value.dim() == 1 and len(value) % rows == 0:
        return value.unflatten(0, (rows, -1))  # tokens of all examples, one example after the other
    shape = tuple(value.shape)
    if rows is None:
        what = f"the loss of one lane has shape {shape}, expected a scalar"
        raise UserError(what, "take its mean")
    raise UserError(f"the loss of {rows} examples has shape {shape}", GIVE)


def means(losses: Tensor, lead: int = 1) -> Tensor:
    """Means over all but the leading axes."""
    return losses.flatten(lead).mean(-1) if losses.dim() > lead else losses


def value_at(loss: Loss, params: Params, batch: Any, rows: int | None) -> Tensor:
    """The losses at some parameters, as `losses_of` gives them."""
    return losses_of(loss(params) if rows is None else loss(params, batch), rows)


def _inner(value: Any) -> Any:
    if isinstance(value, tuple | list) and value:
        return _inner(value[0])
    inner = value.get("loss") if isinstance(value, Mapping) else getattr(value, "loss", value)
    if inner is None:
        raise UserError("the loss gives none", "return it; a model of Hugging Face needs `labels`")
    return inner


def adds_up(loss: Loss, params: Params, batch: Any, twice: Any, rows: int) -> bool:
    """Whether a loss of twice the examples is twice as large: a sum where a mean belongs.

    Args:
        loss: The loss.
        params: Parameters where it is not zero.
        batch: Some examples.
        twice: The same, each twice.
        rows: Examples of `batch`.
    """
    once = value_at(loss, params, batch, rows)
    both = value_at(loss, params, twice, 2 * rows)
    if once.dim() or not torch.isfinite(once) or once == 0:
        return False
    return bool(abs(both / once - 2) < SAME)


SAME = 1e-3  # relative difference that rounding explains
