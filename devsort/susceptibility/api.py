"""Susceptibilities and influence for any loss, at one checkpoint.

What the numbers are, their sign and factor: `devsort.susceptibility.response`.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from devsort.errors import UserError
from devsort.rng import name_key
from devsort.sampling.api import check_start, in_geometry, minibatches_of, row_masks
from devsort.sampling.chains import run_chains
from devsort.sampling.checks import generators_kept
from devsort.sampling.config import SamplerConfig
from devsort.sampling.data import as_data, data_size
from devsort.sampling.geometry import Blocks
from devsort.sampling.losses import Loss
from devsort.sampling.masks import Mask
from devsort.sampling.modules import Params
from devsort.sampling.objective import LossObjective
from devsort.sampling.trace import Trace
from devsort.susceptibility.observe import (
    Evaluate,
    PartMeans,
    ProbeLosses,
    Watcher,
    component_response,
    kernel_response,
)
from devsort.susceptibility.response import Response, correlation, covariance, susceptibility

if TYPE_CHECKING:
    import xarray as xr

FULL = "full"  # the whole model
PROBE = 1024  # rows that are evaluated by default, at most

Observable = Callable[[Params], Tensor]


@dataclass(frozen=True)
class Setting:
    """What is sampled, and which rows are evaluated at the draws.

    Attributes:
        loss: `loss(params, batch)`: the loss of each example (B,) or token (B, T).
        params: The checkpoint, name → tensor.
        data: See `sampling.data.as_data`.
        config: Sampler settings.
        probe: Rows that are evaluated; None: all, or PROBE of them at equal distances.
        parts: Name → rows of the data, by index or as a bool mask (n,) or (n, T); without parts,
            each probed row is its own part.
        every: One of this many draws is evaluated.
        key: Names the noise, see `sampling.sample`.
        blocks: See `sampling.geometry`.
    """

    loss: Loss
    params: Params
    data: Any
    config: SamplerConfig
    probe: Sequence[int] | Tensor | None = None
    parts: Mapping[str, Any] | None = None
    every: int = 1
    key: tuple[int, ...] = ()
    blocks: Blocks | None = None


@dataclass(frozen=True)
class Responses:
    """Responses and the draws that they come from.

    Attributes:
        table: The numbers, with standard errors, 95 % intervals and R-hat.
        traces: Component → trace of the same draws; `devsort.estimate` makes its LLC.
    """

    table: "xr.Dataset"
    traces: dict[str, Trace]


def susceptibilities(
    loss: Loss,
    params: Params,
    data: Any,
    config: SamplerConfig | None = None,
    *,
    masks: Mapping[str, Mask | None] | None = None,
    full: bool = False,
    **more: Any,
) -> Responses:
    """χ = −Cov(L, ℓ_x − L) of each component and each part or example x of the data.

    Args:
        loss: See `Setting`.
        params: See `Setting`.
        data: See `Setting`.
        config: See `Setting`.
        masks: Component → what is free, see `sampling.masks`; the rest is frozen. None: the whole
            model alone.
        full: Take the mean of ℓ_x − L over draws of the whole model, as devinterp does.
        more: probe, parts, every, key and blocks of `Setting`.

    Returns:
        The table has `chi`, `se`, `ci95` and `rhat` by component and part or row.

    Raises:
        UserError: The loss gives no losses by example, or a mask, part or row does not fit.
    """
    setting = Setting(loss, params, as_data(data), config or SamplerConfig(), **more)
    names = list(masks or {FULL: None})
    masks = {**(masks or {}), FULL: None}
    sampled = dict.fromkeys([*names, *([FULL] if full else [])])
    with generators_kept(next(iter(params.values())).device):
        found = {name: watched(setting, masks[name], name, by_component) for name in sampled}
    whole = found[FULL][0].moments[0] if full else None
    responses = [susceptibility(found[name][0].moments[0], whole) for name in names]
    axis, values = _axis(setting)
    table = _dataset({"chi": responses}, ("component", axis), {"component": names, axis: values})
    return Responses(table.assign_attrs(full=int(full)), {n: found[n][1] for n in sampled})


def influences(
    loss: Loss,
    params: Params,
    data: Any,
    config: SamplerConfig | None = None,
    *,
    mask: Mask | None = None,
    observables: Mapping[str, Observable] | None = None,
    **more: Any,
) -> Responses:
    """Covariance and correlation of losses over draws: between examples or parts, and with any
    observable. The influence of x on φ is −Cov(φ, ℓ_x).

    Args:
        loss: See `Setting`.
        params: See `Setting`.
        data: See `Setting`.
        config: See `Setting`.
        mask: What is free, see `sampling.masks`; None: the whole model.
        observables: Name → function of the parameters that gives one number.
        more: probe, parts, every, key and blocks of `Setting`.

    Returns:
        The table has `covariance` and `correlation` with `_se`, `_ci95` and `rhat`, by `observed`
        (parts or rows, then the observables) and part or row.

    Raises:
        UserError: As `susceptibilities`.
    """
    setting = Setting(loss, params, as_data(data), config or SamplerConfig(), **more)
    named = dict(observables or {})

    def evaluate(objective: LossObjective, setting: Setting) -> Evaluate:
        others = [_observed(objective, *item) for item in named.items()]
        return kernel_response(*_probe(objective, setting), others)

    with generators_kept(next(iter(params.values())).device):
        watcher, trace = watched(setting, mask, FULL, evaluate)
    axis, values = _axis(setting)
    responses = {"covariance": covariance, "correlation": correlation}
    found = {kind: [of(watcher.moments[0])] for kind, of in responses.items()}
    coordinates = {"observed": [*map(str, values), *named], axis: values}
    return Responses(_dataset(found, ("observed", axis), coordinates), {FULL: trace})


def watched(
    setting: Setting, mask: Mask | None, name: str, evaluate: Callable[..., Evaluate]
) -> tuple[Watcher, Trace]:
    """What was evaluated at the draws of one component, and their trace.

    Args:
        setting: What is sampled.
        mask: What is free.
        name: Of the component, which names its noise.
        evaluate: (objective, setting) → what is evaluated, as `by_component`.
    """
    c = setting.config
    index = minibatches_of(c, setting.data)
    objective = LossObjective(setting.loss, setting.params, setting.data, index, mask)
    check_start(objective)
    moved = in_geometry(objective, c, setting.blocks)
    watcher = Watcher(evaluate(objective, setting), moved, c, setting.every)
    streams = [(*setting.key, name_key(name), chain) for chain in range(c.num_chains)]
    return watcher, run_chains(moved, c, streams, watch=watcher)


def by_component(objective: LossObjective, setting: Setting) -> Evaluate:
    """L and ℓ_x − L on the probed rows."""
    return component_response(*_probe(objective, setting))


def _probe(objective: LossObjective, setting: Setting) -> tuple[ProbeLosses, PartMeans | None]:
    """The losses of the probed rows, and the means over parts of them."""
    rows = _rows(setting)
    losses = ProbeLosses(objective, rows)
    if setting.parts is None:
        return losses, None
    masks = row_masks(setting.parts, setting.data)
    chosen = {name: mask[rows.to(mask.device)] for name, mask in masks.items()}
    if empty := [name for name, mask in chosen.items() if not mask.any()]:
        raise UserError(f"no probed row lies in part {empty[0]!r}", "give `probe` more rows")
    return losses, PartMeans(chosen, objective.center.device)


def _rows(setting: Setting) -> Tensor:
    size = data_size(setting.data)
    if setting.probe is not None:
        rows = torch.as_tensor(setting.probe).long()
        if not len(rows) or int(rows.min()) < 0 or int(rows.max()) >= size:
            raise UserError(f"probe names rows beyond the {size} of the data", "count from 0")
        return rows
    count = min(size, PROBE)
    return torch.arange(count) * size // count


def _axis(setting: Setting) -> tuple[str, list]:
    if setting.parts is not None:
        return "part", list(setting.parts)
    return "row", _rows(setting).tolist()


def _observed(
    objective: LossObjective, name: str, observable: Observable
) -> Callable[[Tensor], Tensor]:
    """An observable of each lane.

    Raises:
        UserError: It does not give one number, or vmap cannot map it where it maps the loss.
    """

    def of(w: Tensor) -> Tensor:
        return objective.lanes.each(lambda params: observable(params).reshape(()), w)

    try:
        of(objective.center)
    except Exception as e:  # whatever a user's function may raise
        fix = "give a function of the parameters to one number, in operations that vmap maps"
        raise UserError(f"observable {name!r} fails ({type(e).__name__}: {e})", fix) from e
    return of


def _dataset(
    responses: Mapping[str, Sequence[Response]], dims: tuple[str, str], coordinates: dict
) -> "xr.Dataset":
    """Responses, one below the other, as variables."""
    import xarray as xr

    variables: dict[str, tuple[tuple[str, ...], np.ndarray]] = {}
    for name, parts in responses.items():
        prefix = "" if name == "chi" else f"{name}_"
        values = {name: "value", f"{prefix}se": "se", "rhat": "rhat"}
        stacked = {v: np.concatenate([getattr(p, f) for p in parts]) for v, f in values.items()}
        variables |= {v: (dims, value) for v, value in stacked.items()}
        intervals = np.concatenate([p.ci95 for p in parts])
        variables[f"{prefix}ci95"] = ((*dims, "bound"), intervals)
    return xr.Dataset(variables, {**coordinates, "bound": ["low", "high"]})
