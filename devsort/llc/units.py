"""Checks whether an LLC depends on the units of the weights, using symmetries of the network."""

import fnmatch
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from devsort.errors import UserError
from devsort.llc.estimate import estimate
from devsort.sampling import SamplerConfig, sample
from devsort.sampling.geometry import Blocks
from devsort.sampling.objective import Loss, Params

SAME = 1e-3  # relative difference of two losses that float32 rounding can explain
ORIGINAL = "as it is"


def check_units(
    loss: Loss,
    params: Params,
    moves: Mapping[str, Mapping[str, float]],
    data: Any = None,
    config: SamplerConfig | None = None,
    *,
    blocks: Blocks | None = None,
) -> list[dict[str, Any]]:
    """Compares the LLC of a network with that of the same function in other units of the weights.

    For example, two ReLU layers compute the same function after the first is doubled and the second
    halved. If the LLC is a property of the function, it is the same for both.

    Args:
        loss: As for `sample`.
        params: w*, name → tensor.
        moves: Name of a move → parameter name or pattern → factor, such as
            `{"double": {"0.*": 2, "2.weight": 0.5}}`. A move must not change the loss.
        data: As for `sample`.
        config: Sampler settings. `geometry` determines which LLC is checked.
        blocks: As for `sample`.

    Returns:
        One row for the network and one for each move, with move, llc, se, flags and z. z is the
        difference from the network in combined standard errors; by chance it exceeds ± 2 about once
        in twenty.

    Raises:
        UserError: If a move matches no parameter, or changes the loss and so is not a symmetry.
    """
    networks = {ORIGINAL: params, **{n: _moved(params, move, n) for n, move in moves.items()}}
    expected = _value(loss, params, data)
    rows: list[dict[str, Any]] = []
    for i, (name, moved) in enumerate(networks.items()):
        value = _value(loss, moved, data)
        if abs(value - expected) > SAME * max(abs(expected), SAME):
            what = f"move {name!r} changes the loss from {expected:.6g} to {value:.6g}"
            raise UserError(what, "give factors that do not change the function")
        e = estimate(sample(loss, moved, data, config, key=(i,), blocks=blocks))
        rows.append({"move": name, "llc": e.llc, "se": e.se, "flags": list(e.flags)})
    first = rows[0]
    return [{**r, "z": (r["llc"] - first["llc"]) / np.hypot(r["se"], first["se"])} for r in rows]


def _moved(params: Params, move: Mapping[str, float], name: str) -> Params:
    for pattern in move:
        if not any(fnmatch.fnmatchcase(p, pattern) for p in params):
            what = f"move {name!r}: no parameter matches {pattern!r}"
            raise UserError(what, f"use {list(params)}")
    return {p: value * _factor(move, p) for p, value in params.items()}


def _factor(move: Mapping[str, float], name: str) -> float:
    return next((f for pattern, f in move.items() if fnmatch.fnmatchcase(name, pattern)), 1.0)


def _value(loss: Loss, params: Params, data: Any) -> float:
    with torch.no_grad():
        value = loss(params) if data is None else loss(params, data)
    return float(value.mean())
