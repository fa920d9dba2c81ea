"""The public entry point: sample around given parameters of any loss."""

import warnings
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from devsort.errors import UserError
from devsort.sampling.chains import run_chains
from devsort.sampling.checks import generators_kept
from devsort.sampling.config import SamplerConfig
from devsort.sampling.data import as_data, data_size
from devsort.sampling.geometry import Blocks, Rescaled, block_scales, flat_scale
from devsort.sampling.losses import Loss
from devsort.sampling.masks import Mask
from devsort.sampling.modules import types_note
from devsort.sampling.objective import LossObjective, Objective, minibatches, sampled
from devsort.sampling.trace import Trace

ROWS = "give row numbers, a slice, or a bool mask of the rows"


def sample(
    loss: Loss,
    params: dict[str, Tensor],
    data: Any = None,
    config: SamplerConfig | None = None,
    *,
    mask: Mask | None = None,
    key: tuple[int, ...] = (),
    blocks: Blocks | None = None,
    parts: Mapping[str, Any] | None = None,
) -> Trace:
    """Samples `exp(−nβ L(w) − γ/2 |w − w*|² − ρ/2 |w|²)` around w* by BAOAB or SGLD.

    `config.num_chains` chains run at once. In relative geometry the step, noise, localization and
    prior are measured in units of each block's own scale; see `geometry`.

    Args:
        loss: `loss(params, batch)` returns the loss of each example (B,) or token (B, T), or their
            mean; `loss(params)` if `data` is None. For a module, use `module_loss`.
        params: w*, name → tensor. 16-bit weights are sampled in float32.
        data: Tensors or arrays (n, …), alone or nested in a tuple, list or dict, or a data set; see
            `data.as_data`. Each step uses `config.batch_size` of its rows.
        config: Sampler settings.
        mask: Free entries, name → bool tensor, or None for the whole parameter. Parameters that it
            does not name are frozen. With None, everything is free (of a module, what has
            `requires_grad`).
        key: Names the noise: calls with different keys have independent noise. The minibatches do
            not depend on it.
        blocks: In relative geometry, the weights that share a scale; see `geometry.block_scales`.
            With None, all weights of a tensor share one.
        parts: Name → rows of the data, as row numbers or as a bool mask (n,) or (n, T). The loss on
            these rows is recorded at the same draws. Needs a loss that returns one value per
            example.

    Returns:
        The trace. `devsort.llc.estimate` turns it into λ̂ with its standard error and flags.

    Raises:
        UserError: If the mask, blocks or parts do not fit; if the loss cannot be sampled (see
            `checks`); or if all weights are zero in relative geometry.
    """
    config = config or SamplerConfig()
    refuse_unresolved(config)
    state = sampled(params)
    for note in types_note(list(params.values())):
        warnings.warn(note, stacklevel=2)
    data = None if data is None else as_data(data)
    index = minibatches_of(config, data)
    with generators_kept(next(iter(state.values())).device):
        chosen = row_masks(parts or {}, data)
        objective = LossObjective(loss, state, data, index, mask, chosen, config.num_chains)
        check_start(objective)
        if objective.traits.refusal:
            warnings.warn(one_by_one(objective.traits.refusal), stacklevel=2)
        streams = [(*key, c) for c in range(config.num_chains)]
        return run_chains(in_geometry(objective, config, blocks), config, streams)


def refuse_unresolved(config: SamplerConfig) -> None:
    """Raises UserError if the prior is one that only a run of the laboratory can resolve."""
    if config.prior == "weight_decay":
        raise UserError(
            "prior: weight_decay needs a run, which stores its weight decay",
            "give nβ·λ_wd as a number",
        )


def minibatches_of(
    config: SamplerConfig, data: Any, chains: range | None = None
) -> torch.Tensor | None:
    """Returns the rows that each chain uses at each step, or None if there is no data."""
    if data is None:
        return None
    chains = range(config.num_chains) if chains is None else chains
    size = data_size(data)
    return minibatches(config.seed, chains, config.num_steps, config.batch_size, size)


def in_geometry(
    objective: LossObjective, config: SamplerConfig, blocks: Blocks | None = None
) -> Objective:
    """Returns the objective as a function of the variables that are sampled; see `geometry`."""
    if config.geometry == "absolute":
        return objective
    rows = [
        flat_scale(objective.layout, block_scales(params, blocks), objective.free)
        for params in objective.params
    ]
    return Rescaled(objective, rows[0] if len(rows) == 1 else torch.stack(rows))


def row_masks(parts: Mapping[str, Any], data: Any) -> dict[str, Tensor]:
    """Returns each part of the data as a bool mask (n,) or (n, T).

    Args:
        parts: Name → row numbers, a slice, or such a mask.
        data: The data set.

    Raises:
        UserError: If there is no data, a row does not exist, or a part is empty or selects no rows.
    """
    if not isinstance(parts, Mapping):
        what = f"parts are given as a {type(parts).__name__}"
        raise UserError(what, "give name → rows, as in {'hard': [3, 17]}")
    if parts and data is None:
        raise UserError("parts are given without data", "give the data that they are parts of")
    return {name: _row_mask(name, part, data_size(data)) for name, part in parts.items()}


def one_by_one(refusal: str) -> str:
    """Returns the note for a loss that vmap cannot map over chains."""
    return f"chains are computed one by one, because vmap cannot map the loss ({refusal})"


def check_start(objective: LossObjective) -> float:
    """Returns the loss at the starting point, on the first minibatch.

    Raises:
        UserError: If the loss or its gradient is not finite.
    """
    value, _, grad, _ = objective(objective.center, 0)
    if not (torch.isfinite(value).all() and torch.isfinite(grad).all()):
        raise UserError(
            "the loss or its gradient at the starting point is not finite", "check params and data"
        )
    return float(value[0])


def _row_mask(name: str, part: Any, size: int) -> Tensor:
    try:
        chosen = torch.as_tensor(range(size)[part] if isinstance(part, slice) else part)
    except (TypeError, ValueError, RuntimeError):
        raise UserError(f"part {name!r} of the data is no choice of rows", ROWS) from None
    if chosen.dtype != torch.bool:
        rows, chosen = _row_numbers(name, chosen, size), torch.zeros(size, dtype=torch.bool)
        chosen[rows] = True
    if not chosen.any():
        raise UserError(f"part {name!r} of the data is empty", "choose at least one row")
    return chosen


def _row_numbers(name: str, rows: Tensor, size: int) -> Tensor:
    if rows.numel() and (rows.is_floating_point() or rows.dim() > 1):
        raise UserError(f"part {name!r} of the data is no choice of rows", ROWS)
    outside = rows[(rows < 0) | (rows >= size)]
    if outside.numel():
        what = f"part {name!r} names row {int(outside.flatten()[0])} of {size}"
        raise UserError(what, "count rows from 0")
    return rows.long()
