"""Restrictions: which weights of a network move while the others are frozen.

| restriction                   | what moves                                                       |
|-------------------------------|------------------------------------------------------------------|
| `"blocks.*.attn.*"`           | all parameters whose names match                                 |
| a list of patterns            | all parameters that match any of them                            |
| `{"attn.W_QKV": index}`       | the entries `W_QKV[index]`: a slice, numbers, or a tuple of them |
| `{"attn.W_QKV": bool tensor}` | the entries where it is true                                     |
| `{"attn.W_QKV": None}`        | all entries                                                      |

A pattern does not match parameters with `requires_grad=False`; their full name does.
"""

import fnmatch
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from devsort.errors import UserError
from devsort.sampling.losses import Loss
from devsort.sampling.masks import Mask
from devsort.sampling.modules import ModuleLoss, Params

FULL = "full"  # name of the whole model, which is part of every trajectory


def masks_of(
    restrictions: Mapping[str, Any] | None, params: Params, loss: Loss
) -> dict[str, Mask | None]:
    """Returns name → mask for every restriction, starting with the whole model.

    Args:
        restrictions: Name → patterns, or parameter → entries; see the module.
        params: The parameters of one checkpoint.
        loss: Determines which parameters are frozen.

    Raises:
        UserError: If the restrictions have no names, one matches nothing, an index does not fit, or
            one is called `full`.
    """
    if not isinstance(restrictions or {}, Mapping):
        what = f"restrictions are given as a {type(restrictions).__name__}"
        raise UserError(what, "give name → patterns, as in {'attention': ['blocks.*.attn.*']}")
    named = dict(restrictions or {})
    if FULL in named:
        raise UserError(
            "a restriction is named 'full', which is the whole model", "give it another name"
        )
    free = loss.free if isinstance(loss, ModuleLoss) else tuple(params)
    masks: dict[str, Mask | None] = {FULL: None}
    for name, chosen in named.items():
        by_entry = isinstance(chosen, Mapping)
        masks[name] = (
            _entries(name, chosen, params) if by_entry else _matching(name, chosen, params, free)
        )
    return masks


def _matching(
    name: str, patterns: str | Sequence[str], params: Params, free: Sequence[str]
) -> Mask:
    patterns = _as_patterns(name, patterns)
    chosen = dict.fromkeys(
        p
        for pattern in patterns
        for p in params
        if p == pattern or (p in free and fnmatch.fnmatchcase(p, pattern))
    )
    if not chosen:
        listed = ", ".join(patterns)
        frozen = [n for n in params if any(fnmatch.fnmatchcase(n, p) for p in patterns)]
        if frozen:
            what = f"restriction {name!r}: all parameters that match {listed} have "
            fix = f"give their full names to free them, such as {frozen[:8]}"
            raise UserError(f"{what}requires_grad=False", fix)
        what = f"restriction {name!r}: no parameter matches {listed}"
        raise UserError(what, f"use names or patterns of {list(params)[:8]}")
    return dict.fromkeys(chosen)


def _as_patterns(name: str, given: Any) -> list[str]:
    """One pattern or several as a list."""
    patterns = [given] if isinstance(given, str) else given
    if isinstance(patterns, Iterable):
        patterns = list(patterns)
        if patterns and all(isinstance(p, str) for p in patterns):
            return patterns
    fix = "give patterns of names, or parameter → entries as in {'head.weight': 3}"
    raise UserError(f"restriction {name!r} is given as a {type(given).__name__}", fix)


def _entries(name: str, chosen: Mapping[str, Any], params: Params) -> Mask:
    unknown = [p for p in chosen if p not in params]
    if unknown:
        what = f"restriction {name!r} names {unknown[0]!r}, which is not a parameter"
        raise UserError(what, f"use {list(params)[:8]}")
    found = {p: _mask(name, p, index, params[p]) for p, index in chosen.items()}
    if not any(mask is None or mask.any() for mask in found.values()):
        raise UserError(f"restriction {name!r} leaves nothing free", "free at least one entry")
    return found


def _mask(name: str, parameter: str, index: Any, value: Tensor) -> Tensor | None:
    if index is None:
        return None
    if isinstance(index, Tensor) and index.dtype == torch.bool and index.shape == value.shape:
        return index
    mask = torch.zeros(value.shape, dtype=torch.bool)
    try:
        mask[index] = True
    except (IndexError, TypeError, ValueError, RuntimeError) as e:
        what = f"restriction {name!r}: {parameter} has no entries {index!r} ({e})"
        raise UserError(what, f"its shape is {tuple(value.shape)}") from None
    return mask
