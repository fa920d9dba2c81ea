"""Susceptibilities and influences of your own network, with components given by name patterns."""

from collections.abc import Mapping
from typing import Any

from devsort.networks.restrictions import masks_of
from devsort.sampling.config import SamplerConfig
from devsort.sampling.losses import Loss
from devsort.sampling.modules import Params
from devsort.susceptibility import api
from devsort.susceptibility.api import Responses


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
