"""Estimates from the output of devinterp's `sample()`, with standard errors and diagnostics.

| what devinterp does                     | what is done here                                      |
|-----------------------------------------|--------------------------------------------------------|
| averages over burn-in as well           | burn-in is left out                                    |
| one initial loss, on other batches      | its error is added (in quadrature), or `start` pairs   |
| the same batches for all chains         | for the error, the mean over chains counts as a chain  |
| leaves out a chain that died            | it is counted, and the estimate is withheld            |
| no initial loss of an observable        | `start` computes it; without it there is no estimate   |
| does not store |w − w*|² or gradients   | the flags that need them cannot be raised              |
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

SAMPLING = "sampling"  # name of the estimate from the losses on the chains' own minibatches
Start = Callable[[np.ndarray], np.ndarray]  # token ids (n, L + 1) → losses of w* (n, L)
FIX = "give the DataTree of devinterp.slt.sampling.sample(), or the path of its output"


@dataclass(frozen=True)
class Imported:
    """Estimates from draws of devinterp.

    Attributes:
        estimates: `sampling`, and each observable whose initial loss is known → estimate.
        notes: One sentence for each thing that these draws do not contain.
        devinterp_llc: The result of devinterp's own `compute_llc`.
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
    """Estimates the LLC from draws of devinterp.

    Args:
        draws: The return value of `devinterp.slt.sampling.sample()`, or the path of its output.
        start: Token ids (n, L + 1) → the checkpoint's own losses on them (n, L). With it, each draw
            is compared with w* on its own minibatch, and there are estimates for the observables.

    Returns:
        λ̂ with its standard error, R-hat, effective number of draws and flags, and notes on what
        these draws do not contain. `print` shows it as a table.

    Raises:
        UserError: If these are not draws of devinterp.
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
            data[name].values  # noqa: B018  checks that it can be read
        data.attrs["metadata"]["config"]["sampler"]["n_beta"]
    except Exception as e:  # xarray and zarr raise many kinds of errors
        raise UserError(f"these are not draws of devinterp ({type(e).__name__})", FIX) from None
    return data


def _config(settings: Mapping[str, Any], data: xr.Dataset) -> SamplerConfig:
    """Converts devinterp's settings to ours. Missing ones have devinterp's default values."""
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
    result = estimate(_trace(loss, init, config))
    rises = config.n_beta * _kept(loss - init, config)
    error = result.se
    if settings.get("match_sampling_input_ids_across_chains", True) and len(loss) > 1:
        error = np.fmax(error, mean_of(rises.mean(0, keepdims=True)).se)
    if start is None:
        batches = settings.get("num_init_loss_batches", 32)
        error = np.hypot(error, config.n_beta * _batch_error(losses) / np.sqrt(batches))
    return _with_error(result, float(error), config.num_chains)


def _observable(data: xr.Dataset, name: str, config: SamplerConfig, start: Start) -> Estimate:
    """Estimates an observable. It has the same rows at every draw, so no minibatch noise."""
    loss = data[f"loss_{name}"].values.mean((2, 3), dtype=np.float64)  # (C, draws)
    init = np.asarray(start(data[f"input_ids_{name}"].values)).mean()
    own_config = config.model_copy(
        update={"num_burnin_steps": 0, "num_steps_bw_draws": 1, "num_draws": loss.shape[1]}
    )
    return estimate(_trace(loss, np.full(loss.shape, init), own_config))


def _trace(loss: np.ndarray, init: np.ndarray, config: SamplerConfig) -> Trace:
    losses, first = _kept(loss, config), config.num_burnin_steps
    unknown = np.full(losses.shape, np.nan)
    return Trace(
        loss=losses,
        init_loss=_kept(init, config),
        work=unknown,
        force=unknown,
        distance=unknown,
        heating=np.empty((len(losses), 0)),
        burnin_loss=loss[:, :first],
        burnin_init_loss=init[:, :first],
        parts={},
        dimension=10**9,  # unknown; so large that no draw is flagged as diverged
        config=config,
    )


def _kept(values: np.ndarray, config: SamplerConfig) -> np.ndarray:
    return values[:, config.num_burnin_steps :: config.num_steps_bw_draws]


def _at_start(ids: np.ndarray, start: Start) -> np.ndarray:
    """Returns the loss of w* (C, steps) on every minibatch (C, steps, B, tokens)."""
    losses = [[np.asarray(start(batch)).mean() for batch in chain] for chain in ids]
    return np.array(losses, dtype=np.float64)


def _batch_error(losses: np.ndarray) -> float:
    """Returns the standard error of a batch's mean loss at w*, from the chains' first batches."""
    rows = losses[:, 0].mean(2, dtype=np.float64)  # (C, B)
    return float(rows.std(axis=1, ddof=1).mean() / np.sqrt(rows.shape[1]))


def _with_error(result: Estimate, se: float, chains: int) -> Estimate:
    half = float(stdtrit(max(1, 2 * (chains - 1)), 0.975) * se)
    return replace(result, se=se, ci95=(result.llc - half, result.llc + half))


def _notes(settings: Mapping[str, Any], start: Start | None, names: list[str]) -> list[str]:
    notes = ["out_of_equilibrium and improper need gradients and distances, which are not stored"]
    if start is None:
        notes.append(
            "the initial loss was computed on other batches than the draws, so its error is added "
            "in quadrature; give start=… to use the same batches"
        )
        if names:
            observables = ", ".join(names)
            notes.append(f"no initial loss of {observables} is stored: give start=… for their LLCs")
    if settings.get("match_sampling_input_ids_across_chains", True):
        notes.append(
            "all chains used the same batches, so their spread does not contain that noise"
        )
    if settings.get("num_burnin_steps", 0):
        notes.append("devinterp's own value includes burn-in; here burn-in is left out")
    if settings.get("sampling_method", "sgmcmc_sgld") != "sgmcmc_sgld":
        notes.append("RMSprop-SGLD does not sample the distribution that nβ and γ define")
    return notes
