"""The public entry point: sample around any parameters of any loss."""

from typing import Any

import torch
from torch import Tensor

from devsort.errors import UserError
from devsort.sampling.chains import run_chains
from devsort.sampling.config import SamplerConfig
from devsort.sampling.geometry import Blocks, Rescaled, block_scales, flat_scale
from devsort.sampling.masks import Mask
from devsort.sampling.objective import Loss, LossObjective, data_size, minibatches
from devsort.sampling.trace import Trace


def sample(
    loss: Loss,
    params: dict[str, Tensor],
    data: Any = None,
    config: SamplerConfig | None = None,
    *,
    mask: Mask | None = None,
    key: tuple[int, ...] = (),
    blocks: Blocks | None = None,
) -> Trace:
    """Samples exp(−nβ L(w) − γ/2 |w − w*|² − ρ/2 |w|²) around w* with SGLD.

    `config.num_chains` chains run at once. In relative geometry, step, noise, localization and
    prior are in units of each block's own scale, see `geometry`.

    Args:
        loss: `loss(params, batch)`, mean over the batch; `loss(params)` if `data` is None. For
            modules: `module_loss`.
        params: w*, name → tensor.
        data: Tensors (n, …), alone or nested in a tuple, list or dict; a step takes
            `config.batch_size` of its rows.
        config: Sampler settings.
        mask: Free entries, name → bool tensor or None for a whole parameter; names that are left
            out are frozen.
        key: Names the noise, so that two calls with other keys are independent; minibatches do not
            depend on it.
        blocks: In relative geometry, which weights share a scale, see `geometry.block_scales`;
            None: those of a tensor.

    Returns:
        The trace; `devsort.llc.estimate` turns it into λ̂ with its standard error and flags.

    Raises:
        UserError: Mask or blocks do not fit, the loss or its starting value is no finite scalar, or
            all weights are zero in relative geometry.
    """
    config = config or SamplerConfig()
    if config.prior == "weight_decay":
        raise UserError(
            "prior: weight_decay is for runs, which know their decay", "give nβ·λ_wd as a number"
        )
    chains, index = range(config.num_chains), None
    if data is not None:
        index = minibatches(
            config.seed, chains, config.num_steps, config.batch_size, data_size(data)
        )
    objective = LossObjective(loss, params, data, index, mask)
    objective.center = objective.center[:1].expand(config.num_chains, -1)
    _check_start(objective)
    if config.geometry == "relative":
        scale = flat_scale(objective.layout, block_scales(params, blocks), objective.free)
        objective = Rescaled(objective, scale)
    return run_chains(objective, config, [(*key, c) for c in chains])


def _check_start(objective: LossObjective) -> None:
    value, _, grad, _ = objective(objective.center, 0)
    if value.dim() != 1:
        raise UserError(
            f"the loss of one lane has shape {tuple(value.shape[1:])}, expected a scalar",
            "take its mean",
        )
    if not (torch.isfinite(value).all() and torch.isfinite(grad).all()):
        raise UserError(
            "the loss or its gradient at the starting point is not finite", "check params and data"
        )
