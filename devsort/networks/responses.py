"""Susceptibilities and influences of your own network, with components given by name patterns."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from devsort.execution import progress
from devsort.networks.restrictions import masks_of
from devsort.networks.sources import source_of
from devsort.networks.states import fitted
from devsort.sampling.config import SamplerConfig
from devsort.sampling.losses import Loss
from devsort.sampling.modules import Params
from devsort.susceptibility import api
from devsort.susceptibility.api import Responses

if TYPE_CHECKING:
    import xarray as xr


def susceptibilities(
    loss: Loss,
    params: Params,
    data: Any,
    config: SamplerConfig | None = None,
    *,
    components: Mapping[str, Any] | None = None,
    full: bool = False,
    **more: Any,
) -> Responses:
    """Estimates χ = −Cov(L, ℓ_x − L) for each component and each part or example x of the data.

    Args:
        loss: `loss(params, batch)` returns the loss of each example (B,) or token (B, T).
        params: The checkpoint, name → tensor.
        data: See `sampling.data.as_data`.
        config: Sampler settings.
        components: Name → patterns of parameters, or parameter → entries; see
            `networks.restrictions`. All other weights are frozen. With None, the only component is
            the whole model.
        full: Whether to take the mean of ℓ_x − L over draws of the whole model, as devinterp does.
        more: probe, parts, every, key and blocks; see `susceptibility.api.Setting`.

    Returns:
        `table` has `chi`, `se`, `ci95` and `rhat` by component and by part or row. `traces` has the
        draws, from which `devsort.estimate` computes LLCs.

    Raises:
        UserError: If the loss does not return a loss for each example, or an argument does not fit.
    """
    masks = masks_of(components, params, loss)
    chosen = {name: masks[name] for name in components} if components else None
    return api.susceptibilities(loss, params, data, config, masks=chosen, full=full, **more)


def influences(
    loss: Loss,
    params: Params,
    data: Any,
    config: SamplerConfig | None = None,
    *,
    component: Any = None,
    **more: Any,
) -> Responses:
    """Estimates the covariance and correlation of losses over draws.

    They are computed between examples or parts of the data, and with any observable. The influence
    of x on φ is −Cov(φ, ℓ_x).

    Args:
        loss: As in `susceptibilities`.
        params: As in `susceptibilities`.
        data: As in `susceptibilities`.
        config: As in `susceptibilities`.
        component: Patterns of parameters, or parameter → entries. With None, the whole model.
        more: observables (name → function of the parameters that returns one number), and the same
            as in `susceptibilities`.

    Returns:
        `table` has `covariance` and `correlation` with `_se`, `_ci95` and `rhat`, by `observed`
        (parts or rows, followed by the observables) and by part or row.

    Raises:
        UserError: As in `susceptibilities`.
    """
    mask = None
    if component is not None:
        mask = masks_of({"component": component}, params, loss)["component"]
    return api.influences(loss, params, data, config, mask=mask, **more)


def response_trajectory(
    measure: Callable[..., Responses],
    loss: Loss,
    checkpoints: Any,
    data: Any,
    config: SamplerConfig | None = None,
    **more: Any,
) -> "xr.Dataset":
    """Responses over training: the table of `susceptibilities` or `influences` by checkpoint.

    Minibatches are the same at every checkpoint, so that differences between checkpoints are not
    differences of minibatches. The noise is named by the step, as in `llc_trajectory`.

    Args:
        measure: `susceptibilities` or `influences`.
        loss: As in `susceptibilities`.
        checkpoints: A folder, step → state dict, or (steps, function), as in `llc_trajectory`.
        data: As in `susceptibilities`.
        config: As in `susceptibilities`.
        more: Other arguments of `measure`, except `key`.

    Returns:
        The tables of all checkpoints, joined along a first axis `checkpoint`, the training steps.

    Raises:
        UserError: As in `measure` and `llc_trajectory`.
    """
    import xarray as xr

    source = source_of(checkpoints)

    def at(step: int) -> "xr.Dataset":
        state = fitted(source.load(step), loss, f"the checkpoint of step {step}")
        return measure(loss, state, data, config, key=(step,), **more).table

    steps = progress(source.steps, desc="responses", unit="checkpoint")
    axis = xr.IndexVariable("checkpoint", list(source.steps))
    return xr.concat([at(step) for step in steps], axis)
