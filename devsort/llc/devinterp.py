"""What devinterp's `sample()` wrote, with the errors and diagnostics that it does not give.

| what devinterp does                     | what is done here                                      |
|-----------------------------------------|--------------------------------------------------------|
| averages burn-in too                    | burn-in is cut                                         |
| one initial loss, of other batches      | its own error is added, or `start` pairs it            |
| the same batches for all chains         | for the error, the mean over chains is one chain       |
| a chain that died is left out           | it is counted, and the estimate is withheld            |
| no initial loss of an observable        | `start` computes it; without it there is no estimate   |
| nothing of |w − w*|² and of gradients   | the flags that need them cannot be raised              |
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from scipy.special import stdtrit

from devsort.errors import UserError
from devsort.llc.estimate import Estimate, estimate
from devsort.llc.uncertainty import mean_of
from devsort.sampling.config import SamplerConfig
from devsort.sampling.trace import Trace

SAMPLING = "sampling"  # the estimate from the losses that the chains themselves saw
Start = Callable[[np.ndarray], np.ndarray]  # token ids (n, L + 1) → losses of w* (n, L)
FIX = "give the DataTree of devinterp.slt.sampling.sample(), or the path of its output"


@dataclass(frozen=True)
class Imported:
    """Draws of devinterp, estimated.

    Attributes:
        estimates: `sampling` and each observable whose initial loss is known → estimate.
        notes: What cannot be known of these draws, one sentence each.
        devinterp_llc: What devinterp's own `compute_llc` says.
    """

    estimates: dict[str, Estimate]
    notes: tuple[str, ...]
    devinterp_llc: float

    def __str__(self) -> str:
        lines = [f"{'observable':20} {'LLC':>9} {'± SE':>8} {'R-hat':>6} {'ESS':>6}  flags"]
        for name, e in self.estimates.items():
            numbers = f"{e.llc:9.2f} {e.se:8.2f} {e.rhat:6.2f} {e.ess:6.0f}"
            lines.append(f"{name:20} {numbers}  {', '.join(e.flags)}".rstrip())
        lines.append(f"{'devinterp says':20} {self.devinterp_llc:9.2f}")
        return "\n".join([*lines, *(f"note: {note}" for note in self.notes)])


def from_devinterp(draws: xr.DataTree | str | Path, start: Start | None = None) -> Imported:
    """Estimates from draws of devinterp.

    Args:
        draws: What `devinterp.slt.sampling.sample()` returned, or the path of its output.
        start: Token ids (n, L + 1) → the checkpoint's own losses on them (n, L). With it each draw
            is compared with w* on its own minibatch, and observables have estimates too.

    Returns:
        λ̂ with standard error, R-hat, effective number of draws and flags, and what these draws
        cannot tell. `print` it for a table.

    Raises:
        UserError: The draws are not from devinterp.
    """
    data = _opened(draws)
    settings = data.attrs["metadata"]["config"]["sampler"]
    config = _config(settings, data)
    estimates = {SAMPLING: _sampling(data, config, settings, start)}
    names = [str(n).removeprefix("loss_") for n in data.data_vars if str(n).startswith("loss_")]
    if start is not None:
        estimates |= {name: _observable(data, name, config, start) for name in names}
    micro = data["sampling_loss_micro"].values.mean((2, 3), dtype=np.float64)
    theirs = config.n_beta * (np.nanmean(micro) - np.nanmean(data["init_loss"].values))
    return Imported(estimates, tuple(_notes(settings, start, names)), float(theirs))


def _opened(draws: Any) -> xr.Dataset:
    try:
        if isinstance(draws, str | Path):
            draws = xr.open_datatree(str(draws), engine="zarr", consolidated=False)
        data = draws.dataset if isinstance(draws, xr.DataTree) else draws
        for name in ("sampling_loss_micro", "init_loss"):
            data[name].values  # noqa: B018  it is read
        data.attrs["metadata"]["config"]["sampler"]["n_beta"]
    except Exception as e:  # xarray and zarr raise many kinds
        raise UserError(f"these are no draws of devinterp ({type(e).__name__})", FIX) from None
    return data


def _config(settings: Mapping[str, Any], data: xr.Dataset) -> SamplerConfig:
    """Their settings under our names; what an export leaves out is as in devinterp's defaults."""
    chains, steps = data["sampling_loss_micro"].shape[:2]
    burnin = settings.get("num_burnin_steps", 0)
    every = settings.get("num_steps_bw_draws", 1)
    return SamplerConfig(
        geometry="absolute",
        sampling_method="sgld",
        lr=max(settings.get("lr", 0.0), 1e-12),
        n_beta=settings["n_beta"],
        localization=settings.get("localization", 0.0),
        prior=settings.get("llc_weight_decay", 0.0),
        noise_level=settings.get("noise_level", 1.0),
        num_chains=chains,
        num_draws=max(1, (steps - burnin) // every),
        num_burnin_steps=burnin,
        num_steps_bw_draws=every,
        batch_size=data["sampling_loss_micro"].shape[2],
    )


def _sampling(
    data: xr.Dataset, config: SamplerConfig, settings: Mapping[str, Any], start: Start | None
) -> Estimate:
    losses = data["sampling_loss_micro"].values  # (C, steps, B, L)
    loss = losses.mean((2, 3), dtype=np.float64)
    if start is None:
        own = data["init_loss"].values.mean(1, dtype=np.float64)[:, None]
        init = np.broadcast_to(own, loss.shape)
    else:
        init = _at_start(data["sampling_input_ids_micro"].values, start)
    found = estimate(_trace(loss, init, config))
    rises = config.n_beta * _kept(loss - init, config)
    error = found.se
    if settings.get("match_sampling_input_ids_across_chains", True) and len(loss) > 1:
        error = np.fmax(error, mean_of(rises.mean(0, keepdims=True)).se)
    if start is None:
        batches = settings.get("num_init_loss_batches", 32)
        error = np.hypot(error, config.n_beta * _batch_error(losses) / np.sqrt(batches))
    return _with_error(found, float(error), config.num_chains)


def _observable(data: xr.Dataset, name: str, config: SamplerConfig, start: Start) -> Estimate:
    """The same rows at every draw, so there is no minibatch noise."""
    loss = data[f"loss_{name}"].values.mean((2, 3), dtype=np.float64)  # (C, draws)
    init = np.asarray(start(data[f"input_ids_{name}"].values)).mean()
    drawn = config.model_copy(
        update={"num_burnin_steps": 0, "num_steps_bw_draws": 1, "num_draws": loss.shape[1]}
    )
    return estimate(_trace(loss, np.full(loss.shape, init), drawn))


def _trace(loss: np.ndarray, init: np.ndarray, config: SamplerConfig) -> Trace:
    kept, first = _kept(loss, config), config.num_burnin_steps
    unknown = np.full(kept.shape, np.nan)
    return Trace(
        loss=kept,
        init_loss=_kept(init, config),
        work=unknown,
        force=unknown,
        distance=unknown,
        heating=np.empty((len(kept), 0)),
        burnin_loss=loss[:, :first],
        burnin_init_loss=init[:, :first],
        parts={},
        dimension=10**9,  # not known: no draw can be over ten times the half of it
        config=config,
    )


def _kept(values: np.ndarray, config: SamplerConfig) -> np.ndarray:
    return values[:, config.num_burnin_steps :: config.num_steps_bw_draws]


def _at_start(ids: np.ndarray, start: Start) -> np.ndarray:
    """(C, steps) loss of w* on every minibatch (C, steps, B, tokens)."""
    found = [[np.asarray(start(batch)).mean() for batch in chain] for chain in ids]
    return np.array(found, dtype=np.float64)


def _batch_error(losses: np.ndarray) -> float:
    """Standard error of a batch's mean loss at w*, from the first batch of the chains."""
    rows = losses[:, 0].mean(2, dtype=np.float64)  # (C, B)
    return float(rows.std(axis=1, ddof=1).mean() / np.sqrt(rows.shape[1]))


def _with_error(found: Estimate, se: float, chains: int) -> Estimate:
    half = float(stdtrit(max(1, 2 * (chains - 1)), 0.975) * se)
    return replace(found, se=se, ci95=(found.llc - half, found.llc + half))


def _notes(settings: Mapping[str, Any], start: Start | None, names: list[str]) -> list[str]:
    notes = ["out_of_equilibrium and improper need gradients and distances, which are not stored"]
    if start is None:
        notes.append(
            "the initial loss is of other batches than the draws: its error is added; "
            "give start=… to compare on the same ones"
        )
        if names:
            told = ", ".join(names)
            notes.append(f"no initial loss of {told} is stored: give start=… for their LLCs")
    if settings.get("match_sampling_input_ids_across_chains", True):
        notes.append("all chains saw the same batches: their spread alone would miss that noise")
    if settings.get("num_burnin_steps", 0):
        notes.append("devinterp's own value averages the burn-in too; here it is cut")
    if settings.get("sampling_method", "sgmcmc_sgld") != "sgmcmc_sgld":
        notes.append("RMSprop-SGLD samples another distribution than the one that nβ and γ name")
    return notes
