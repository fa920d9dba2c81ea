"""The mean and the variance of the loss as estimators of the LLC: on known answers, and over
training.

python analysis/variance_estimator.py               # known answers, 15 CPU seconds
python analysis/variance_estimator.py runs/baseline # draws of llc.zarr, 10 CPU seconds

| column | estimator                                                                               |
|--------|-----------------------------------------------------------------------------------------|
| mean   | λ̂ = nβ (mean of L(w) − L(w*)), the shipped one                                          |
| var    | V = (nβ)² (Var L − mean(s²)/N), SIVE (arXiv 2606.22389): s² is the variance of the      |
|        | losses of a minibatch of N examples; no L(w*) is needed                                 |
| paired | V from L(w) − L(w*) by example, as free of an offset and with less minibatch noise      |
| centre | C = nβ (mean of L(w) − L(w̄)), with w̄ the mean of the draws; jackknife over chains       |

On a quadratic of curvatures h, whose minimum lies m away from w*, with r = nβh / (nβh + γ):

    λ̂ = ½ Σ r − ½ Σ nβ h m² r (2 − r)
    V = ½ Σ r² + Σ nβ h m² r (1 − r)²
    C = ½ Σ r

At a minimum V is below λ̂ by ½ Σ r (1 − r): localization alone makes them differ. Away from one,
directions with r near 0 (a slope, and little curvature) lower λ̂ and raise V by the same amount. V
is free of it where r is near 1. Where γ = 0 and L is quasi-homogeneous, nβ L is Gamma(λ, 1), so
both are λ, and V needs 2λ + 6 times as many draws for the same relative error.

llc.zarr has no s². Successive draws have independent minibatches, so the autocovariance of the loss
at lag one is free of their noise: it is V times the correlation from one draw to the next.
"""

import argparse
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from devsort.execution import one_core, torch_threads
from devsort.llc.uncertainty import Mean, mean_of
from devsort.sampling import SamplerConfig, Trace, run_chains
from devsort.sampling.losses import means
from devsort.sampling.objective import LossObjective, Objective, minibatches
from devsort.sorting.artifacts import LLC
from devsort.sorting.run import Run, open_run
from devsort.validation.potentials import crossing
from devsort.validation.quadrature import grid

N_BETA = 1000.0  # of the runs
EVERY = 5  # draws from one kept position to the next
KNOWN = SamplerConfig(
    geometry="absolute",
    sampling_method="baoab",
    momentum=0.5,
    n_beta=100.0,
    localization=1.0,
    lr=4e-3,
    num_chains=40,
    num_burnin_steps=400,
    num_draws=100,
    num_steps_bw_draws=5,
)


def variance(values: np.ndarray, noise: np.ndarray | float = 0.0) -> Mean:
    """The variance of (C, T) draws less what minibatches add to it, with its error."""
    squares = (values - values.mean()) ** 2
    return mean_of(squares - noise).corrected(-(mean_of(values).se ** 2))


def cost(var: Mean, mean: Mean) -> float:
    """How many times as many draws V needs as λ̂ for the same relative error."""
    return (var.se / var.value / (mean.se / mean.value)) ** 2


class Spread:
    """An objective whose trace also has the variance of losses within a minibatch, as parts.

    Args:
        inner: The objective.
        place: The name of what computes its losses and gradient.
        start: Step → losses (G, B) of w* on the minibatches.
    """

    def __init__(self, inner: Any, place: str, start: Callable[[int], Tensor | float]) -> None:
        self.inner, self.start, self.seconds = inner, start, 0.0
        self.kept = Kept(getattr(inner, place))
        setattr(inner, place, self.kept)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    def __call__(self, w: Tensor, step: int) -> tuple:
        """As `Objective`."""
        loss, start, grad, _ = self.inner(w, step)
        begun = time.process_time()
        rows = means(self.kept.losses, 2)  # (G, B)
        spread = {"var": rows.var(1), "paired": (rows - self.start(step)).var(1)}
        self.seconds += time.process_time() - begun
        return loss, start, grad, spread


class Kept:
    """Keeps the losses by example that it computes."""

    losses: Tensor

    def __init__(self, inner: Any) -> None:
        self.inner = inner

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    def value_and_grad(self, *args: Any) -> tuple[Tensor, Tensor]:
        """As that of the inner one."""
        self.losses, grad = self.inner.value_and_grad(*args)
        return self.losses, grad


@dataclass
class Positions:
    """Keeps w at some draws: (draws, C, F)."""

    every: int = EVERY
    seen: list[Tensor] = field(default_factory=list)

    def __call__(self, w: Tensor) -> None:
        """See `Watch`."""
        self.seen.append(w.clone())


def drawn(objective: Objective, config: SamplerConfig, name: int) -> tuple[Trace, Tensor]:
    """The trace of all chains of one checkpoint, and (C, draws, F) positions."""
    positions = Positions()
    streams = [(name, c) for c in range(config.num_chains)]
    trace = run_chains(objective, config, streams, watch=positions)
    return trace, torch.stack(positions.seen, 1)


def estimators(trace: Trace) -> dict[str, Mean]:
    """mean, var, paired; `uncorrected` is `var` with the noise of minibatches left in."""
    n_beta, size = trace.config.n_beta, trace.config.batch_size
    rise, loss = (n_beta * a.astype(np.float64) for a in (trace.rise, trace.loss))
    noise = {name: n_beta**2 / size * s.astype(np.float64) for name, s in trace.parts.items()}
    heat = float(trace.heating.mean())
    return {
        "mean": mean_of(rise).corrected(heat, heat / 2),
        "var": variance(loss, noise["var"]),
        "paired": variance(rise, noise["paired"]),
        "uncorrected": variance(loss),
    }


def centred(trace: Trace, positions: Tensor, gain_of: Callable[[Tensor], float]) -> Mean:
    """C by jackknife over chains.

    Args:
        trace: Of all chains.
        positions: (C, draws, F).
        gain_of: L(w*) − L(w) on all data at a w (F,).
    """
    n_beta, chains = trace.config.n_beta, len(positions)
    each, centres = trace.rise.mean(1, dtype=np.float64), positions.mean(1)  # (C,), (C, F)

    def value(kept: list[int]) -> float:
        return n_beta * (each[kept].mean() + gain_of(centres[kept].mean(0)))

    whole = value(list(range(chains)))
    left = np.array([value([c for c in range(chains) if c != out]) for out in range(chains)])
    bias = (chains - 1) * (left.mean() - whole)
    se = math.sqrt((chains - 1) * left.var())
    return Mean(whole - bias - float(trace.heating.mean()), se, chains - 1, math.nan)


# known answers


@dataclass(frozen=True)
class Known:
    """A sum of d equal losses of one variable, each with its minimum away from w* = 0.

    Attributes:
        what: For the table.
        loss: K(w), elementwise, with minimum value 0.
        count: d.
        localization: γ.
    """

    what: str
    loss: Callable[[Tensor], Tensor]
    count: int
    localization: float

    def truth(self) -> tuple[float, float, float]:
        """λ̂ at a minimum (nβ E K), λ̂ and V, by quadrature."""
        n_beta = KNOWN.n_beta
        w = torch.linspace(-8, 8, 400_001, dtype=torch.float64)
        energy = n_beta * self.loss(w)
        weight = torch.softmax(-energy - self.localization / 2 * w**2, 0)
        above = float(weight @ energy)
        spread = float(weight @ energy**2) - above**2
        start = n_beta * float(self.loss(torch.zeros(1, dtype=torch.float64)))
        return self.count * above, self.count * (above - start), self.count * spread

    def measured(self) -> tuple[dict[str, Mean], Mean]:
        """All estimators, and C."""
        config = KNOWN.model_copy(update={"localization": self.localization})
        plain = Plain(lambda w: self.loss(w).sum(1), self.count)
        trace, positions = drawn(plain, config, 0)
        centre = centred(trace, positions, lambda w: float(plain.start[0] - self.loss(w).sum()))
        return estimators(trace), centre


class Plain:
    """An objective without data, of a loss of rows (G, F) → (G,)."""

    def __init__(self, loss: Callable[[Tensor], Tensor], size: int) -> None:
        self.loss, self.center = loss, torch.zeros(KNOWN.num_chains, size)
        self.start = loss(self.center)

    def __call__(self, w: Tensor, step: int) -> tuple:
        """As `Objective`."""
        moved = w.detach().requires_grad_()
        loss = self.loss(moved)
        (grad,) = torch.autograd.grad(loss.sum(), moved)
        zero = torch.zeros(len(w))
        return loss.detach(), self.start, grad, {"var": zero, "paired": zero}


def known_cases() -> list[Known]:
    """Quadratics and powers, at a minimum and away from one."""

    def quadratic(h: float, m: float = 0.0) -> Callable[[Tensor], Tensor]:
        return lambda w: h / 2 * (w - m) ** 2

    return [
        Known("stiff quadratics, r = 0.99", quadratic(1.0), 20, 1.0),
        Known("half flat quadratics, r = 0.5", quadratic(0.05), 20, 5.0),
        Known("flat quadratics, r = 0.1", quadratic(0.01), 100, 9.0),
        Known("w⁴, γ = 0", lambda w: w**4, 20, 0.0),
        Known("w⁴, γ = 5", lambda w: w**4, 20, 5.0),
        Known("stiff quadratics, minimum 0.5 away", quadratic(1.0, 0.5), 20, 1.0),
        Known("half flat quadratics, minimum 1 away", quadratic(0.05, 1.0), 20, 5.0),
        Known("a slope: r = 0.1, minimum 1 away", quadratic(0.01, 1.0), 100, 9.0),
        Known("w⁴, minimum 1 away, γ = 5", lambda w: (w - 1) ** 4, 20, 5.0),
    ]


def crossing_case() -> None:
    """4 w1² w2², two dimensions, γ = 5: truth by quadrature."""
    config = KNOWN.model_copy(update={"localization": 5.0, "lr": 1e-3})
    potential = crossing(1, 1)
    (nodes,) = grid(potential.loss, potential.star, config, 400, 8.0)
    mean = float(nodes.weight @ nodes.energy)
    spread = float(nodes.weight @ nodes.energy**2) - mean**2
    trace, positions = drawn(Plain(lambda w: potential.loss({"w": w.T}), 2), config, 0)
    centre = centred(trace, positions, lambda w: -float(potential.loss({"w": w})))
    line("crossing 4 w1² w2², γ = 5", (mean, mean, spread), estimators(trace), centre)


def minibatch_case() -> None:
    """3/2 w² + x / 30 with x = ±1, 8 examples a step: what s²/N takes off."""
    config = KNOWN.model_copy(update={"batch_size": 8})
    rows = torch.tensor([1.0, -1.0])
    index = minibatches(0, range(config.num_chains), config.num_steps, config.batch_size, 2)

    def loss(params: dict[str, Tensor], x: Tensor) -> Tensor:
        return 1.5 * params["w"] ** 2 + x / 30

    plain = LossObjective(loss, {"w": torch.zeros(())}, rows, index, chains=config.num_chains)
    start = Spread(plain, "lanes", lambda step: rows[index[:, step]] / 30)
    trace, positions = drawn(start, config, 0)
    centre = centred(trace, positions, lambda w: -1.5 * float(w[0]) ** 2)
    r = 300 / 301
    found = estimators(trace)
    line("3/2 w² + x / 30, 8 examples a step", (r / 2, r / 2, r**2 / 2), found, centre)
    print(f"\nThe last V without its correction: {told(found['uncorrected'])}, paired: ", end="")
    print(told(found["paired"]))


def line(
    what: str, truth: tuple[float, float, float], found: dict[str, Mean], centre: Mean
) -> None:
    goal, mean, var = truth
    draws = f"{cost(found['var'], found['mean']):.0f}" if mean == goal else "–"
    print(
        f"| {what} | {goal:.2f} | {mean:.2f} | {told(found['mean'])} | {var:.2f} "
        f"| {told(found['var'])} | {told(centre)} | {draws} |",
        flush=True,
    )


def told(mean: Mean) -> str:
    digits = max(0, -math.floor(math.log10(mean.se))) if mean.se > 0 else 2
    return f"{mean.value:.{digits}f} ± {mean.se:.{digits}f}"


def known_answers() -> None:
    print("| loss | at a minimum | λ̂ exact | λ̂ | V exact | V | C | draws |")
    print("|---|---|---|---|---|---|---|---|")
    for case in known_cases():
        line(case.what, case.truth(), *case.measured())
    crossing_case()
    minibatch_case()


# checkpoints of a run


def stored(run: Run) -> None:
    """The whole model at the sampled checkpoints, from the draws of llc.zarr."""
    draws = run.read(LLC).sel(restriction="full").load()
    print("| step | λ̂ | V by lag, of L | V by lag, of L − L(w*) | Var of L, noise left in |")
    print("|---|---|---|---|---|")
    for step in draws["checkpoint"].values.tolist():
        cell = draws.sel(checkpoint=step)
        loss = N_BETA * cell["loss"].values.astype(np.float64)
        rise = loss - N_BETA * cell["init_loss"].values
        llc = f"{float(cell['llc']):.1f} ± {float(cell['se']):.1f}"
        of_loss, of_rise = lagged(loss), lagged(rise)
        print(f"| {step} | {llc} | {told(of_loss)} | {told(of_rise)} | {loss.var():.0f} |")


def lagged(values: np.ndarray) -> Mean:
    """Autocovariance at lag one of (C, T) draws; jackknife over chains."""

    def value(some: np.ndarray) -> float:
        centred = some - some.mean()
        return float((centred[:, 1:] * centred[:, :-1]).mean())

    chains = len(values)
    left = np.array([value(np.delete(values, c, 0)) for c in range(chains)])
    return Mean(value(values), math.sqrt((chains - 1) * left.var()), chains - 1, math.nan)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("run", nargs="?", type=Path)
    args = parser.parse_args()
    with torch_threads(1), one_core():
        stored(open_run(args.run)) if args.run else known_answers()


if __name__ == "__main__":
    main()
