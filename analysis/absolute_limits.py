"""Where absolute geometry is enough: for which nβ and γ is its LLC the same in other units?

python analysis/absolute_limits.py runs

Three kinds of network, each as it is and after one exact symmetry by 2, are sampled in absolute
geometry with the same settings:

| network     | what                                                           | move             |
|-------------|----------------------------------------------------------------|------------------|
| deep linear | 4-4-4-4, |W3 W2 W1 − T|² with T of rank 2; its λ is known      | W1 × 2, W3 / 2   |
| ReLU        | 4-8-1, squared error on 300 points, labels its own: a minimum  | W1, b1 × 2, W2/2 |
| sorter      | the baseline at steps 91 and 6000, minibatches of 32           | stream × 2       |

The step is ε = 1 / (2 (nβ h + γ)) with h the largest curvature of the loss, of both units, at w*
moved by N(0, 1/γ), as `devsort calibrate` takes it; where that is not stable, at w* itself.

| column    | holds if                                                                             |
|-----------|--------------------------------------------------------------------------------------|
| invariant | the two estimates agree within 2 combined standard errors, or within 5 %; and the    |
|           | error of their difference is at most 10 %                                            |
| local     | weights move by less than their scale (the median of their blocks'), and the loss    |
|           | climbs at most a quarter of the way to that of a constant guess                      |
| converged | no flag is raised (R-hat, drift, starting peak, equilibrium, …), and the heat, the   |
|           | share of E[(w − w*)·G] that step size and minibatches add, is at most 25 %           |

All three are needed, in both units, for `enough`; what is missing is named. Chains are as long as a
user can afford: 6000 steps for the small networks, 400 for the sorter.
"""

import argparse
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from geometry_tools import traces, with_sampler
from torch import Tensor

from devsort.execution import one_core
from devsort.layout import Layout
from devsort.llc import Estimate, estimate
from devsort.rng import torch_stream
from devsort.sampling import SamplerConfig, Trace, run_chains
from devsort.sampling.curvature import largest_curvature
from devsort.sampling.geometry import block_scales
from devsort.sampling.objective import Params
from devsort.sorting.checkpoints import load_checkpoint
from devsort.sorting.geometry import sorter_scales
from devsort.sorting.run import Run, open_run
from devsort.sorting.samplers import SortSampler, chance_loss
from devsort.sorting.symmetries import scaled
from devsort.sorting.task import Batch
from devsort.validation.potentials import linear_network

N_BETAS, GAMMAS = (1e3, 1e4, 1e5), (1.0, 10.0, 100.0, 1000.0)
LIMITS = {"error": 0.1, "difference": 0.05, "share": 1.0, "climb": 0.25, "heat": 0.25}
SMALL = {"num_chains": 16, "num_burnin_steps": 2000, "num_draws": 2000, "num_steps_bw_draws": 2}
SORTER = {"num_chains": 4, "num_burnin_steps": 150, "num_draws": 250, "batch_size": 32}
LISTS = 128  # of a sorter's curvature
Loss = Callable[[Params], Tensor]  # weights of lanes (G, …) → (G,)
UNSTABLE = {"diverged", "dead_chains", "starting_peak", "chance_level"}


@dataclass(frozen=True)
class Network:
    """A network in two systems of units.

    Attributes:
        name: With its known λ, if there is one.
        units: Weights as they are, and after the move.
        gradient: (2, P) weights of two lanes → (2, P) gradients of the loss.
        sampled: Config → the trace of each.
        scales: The scale of every weight, of each.
        chance: Loss of a constant guess.
    """

    name: str
    units: tuple[Params, Params]
    gradient: Callable[[Tensor], Tensor]
    sampled: Callable[[SamplerConfig], tuple[Trace, Trace]]
    scales: tuple[Params, Params]
    chance: float

    def curvature(self, gamma: float) -> float:
        """Largest curvature, of both units, at w* moved by N(0, 1/γ)."""
        found = []
        for params in self.units:
            w = Layout.of(params).flatten(params)
            noise = torch.randn(w.shape, generator=torch_stream(0, "absolute-limits"))
            found.append(largest_curvature(self.gradient, w + noise / gamma**0.5))
        return max(found)


class Lanes:
    """An objective whose loss takes all lanes at once; see `devsort.sampling.Objective`."""

    def __init__(self, loss: Loss, layout: Layout, center: Tensor) -> None:
        self.loss, self.layout, self.center = loss, layout, center
        self.at_start = loss(layout.views(center))

    def __call__(self, w: Tensor, step: int) -> tuple[Tensor, Tensor, Tensor, dict]:
        """See `Objective`."""
        with torch.enable_grad():
            free = w.detach().requires_grad_()
            loss = self.loss(self.layout.views(free))
            (grad,) = torch.autograd.grad(loss.sum(), free)
        return loss.detach(), self.at_start, grad, {}


def small(name: str, loss: Loss, params: Params, move: dict[str, float], guess: float) -> Network:
    """A network whose loss, of lanes (G, …) → (G,), depends on its weights alone."""
    units = (params, {n: move.get(n, 1.0) * p for n, p in params.items()})
    layout = Layout.of(params)

    def lanes(w: Tensor) -> Lanes:
        return Lanes(loss, layout, w)

    def sampled(config: SamplerConfig) -> tuple[Trace, Trace]:
        found = []
        for i, p in enumerate(units):
            center = layout.flatten(p).expand(config.num_chains, -1)
            streams = [(i, c) for c in range(config.num_chains)]
            with one_core():
                found.append(run_chains(lanes(center), config, streams))
        return found[0], found[1]

    scales = (block_scales(units[0]), block_scales(units[1]))
    return Network(name, units, lambda w: lanes(w)(w, 0)[2], sampled, scales, guess)


def sorter(run: Run, step: int) -> Network:
    params = load_checkpoint(run, step)
    units = (params, scaled(params, "stream", 2.0))
    sampler = SortSampler(run)
    kernel, few = sampler.kernels[0], sampler.data[slice(0, LISTS)]
    both = Batch(few.tokens.expand(2, -1, -1), few.targets.expand(2, -1, -1))

    def sampled(config: SamplerConfig) -> tuple[Trace, Trace]:
        found = traces(with_sampler(run, **config.model_dump()), dict(enumerate(units)))
        return found[0], found[1]

    scales = tuple(sorter_scales(p, sampler.shape) for p in units)
    slope = lambda w: kernel.value_and_grad(w, both)[1]  # noqa: E731
    return Network(f"sorter, step {step}", units, slope, sampled, scales, chance_loss(run))


def networks(folder: Path) -> Iterator[tuple[Network, dict]]:
    """Each with the length of its chains."""
    yield linear(), SMALL
    yield relu(), SMALL
    run = open_run(folder / "baseline")
    for step in (91, 6000):
        yield sorter(run, step), SORTER


def linear() -> Network:
    known = linear_network((4, 4, 4, 4), 2)
    target = torch.diag(torch.tensor([1.0, 1.0, 0.0, 0.0]))

    def loss(p: Params) -> Tensor:
        return (p["W3"] @ p["W2"] @ p["W1"] - target).square().sum((-1, -2))

    name = f"deep linear, λ = {known.limit.value:g}"
    return small(name, loss, known.star, {"W1": 2.0, "W3": 0.5}, float(target.square().sum()))


def relu() -> Network:
    generator = torch_stream(0, "relu")
    shapes = {"W1": (8, 4), "b1": (8,), "W2": (1, 8), "b2": (1,)}
    params = {n: torch.randn(s, generator=generator) / 2 for n, s in shapes.items()}
    x = torch.randn(300, 4, generator=generator)

    def values(p: Params) -> Tensor:
        hidden = (x @ p["W1"].mT + p["b1"][..., None, :]).relu()
        return (hidden @ p["W2"].mT)[..., 0] + p["b2"]

    y = values(params)
    move = {"W1": 2.0, "b1": 2.0, "W2": 0.5}
    variance = float(y.var(unbiased=False))
    return small("ReLU", lambda p: (values(p) - y).square().mean(-1), params, move, variance)


def measured(network: Network, n_beta: float, gamma: float, length: dict):
    """The config and both traces, at the larger step if it is stable."""
    for h in sorted((network.curvature(gamma), network.curvature(math.inf))):
        lr = 0.5 / (n_beta * h + gamma)
        config = SamplerConfig(
            geometry="absolute", lr=lr, n_beta=n_beta, localization=gamma, **length
        )
        found = network.sampled(config)
        flags = {f for t in found for f in estimate(t, chance_loss=network.chance).flags}
        if not flags & UNSTABLE and max(map(heat, found)) <= LIMITS["heat"]:
            break
    return config, found


def heat(trace: Trace) -> float:
    """(ε/4) E|G|² / d."""
    return float(trace.config.lr / 4 * trace.force.mean() / trace.dimension)


def missing(both: tuple[Estimate, Estimate], share: float, hot: float) -> list[str]:
    """What an estimate in two units lacks."""
    a, b = both
    size, error = (a.llc + b.llc) / 2, math.hypot(a.se, b.se)
    same = abs(a.llc - b.llc) <= max(2 * error, LIMITS["difference"] * size)
    climb = max(e.diagnostics.climb for e in both)
    checks = {
        "invariant": same and error <= LIMITS["error"] * size,
        "local": share <= LIMITS["share"] and climb <= LIMITS["climb"],
        "converged": not a.flags and not b.flags and hot <= LIMITS["heat"],
    }
    return [name for name, holds in checks.items() if not holds]


def row(network: Network, n_beta: float, gamma: float, length: dict) -> str:
    config, found = measured(network, n_beta, gamma, length)
    a, b = (estimate(t, chance_loss=network.chance) for t in found)
    share = max(
        float((t.distance.mean() / t.dimension) ** 0.5 / middle(s))
        for t, s in zip(found, network.scales, strict=True)
    )
    hot = max(map(heat, found))
    lacks = missing((a, b), share, hot)
    cells = [network.name, f"{n_beta:g}", f"{gamma:g}", f"{config.lr:.1e}"]
    cells += [f"{e.llc:.4g} ± {e.se:.2g}" for e in (a, b)]
    ratio = b.llc / a.llc
    cells += [f"{ratio:.2f} ± {abs(ratio) * math.hypot(a.se / a.llc, b.se / b.llc):.2f}"]
    cells += [f"{share:.2f}", f"{max(a.diagnostics.climb, b.diagnostics.climb):.1%}"]
    cells += [f"{max(a.rhat, b.rhat):.2f}", f"{hot:.1%}", ", ".join(sorted({*a.flags, *b.flags}))]
    cells += [", ".join(lacks), "no" if lacks else "**yes**"]
    return f"| {' | '.join(cells)} |"


def middle(scales: Params) -> float:
    return float(torch.cat([s.flatten() for s in scales.values()]).median())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("runs", type=Path)
    parser.add_argument("--only", default="", help="networks whose name starts so")
    arguments = parser.parse_args()
    head = "network|nβ|γ|ε|λ̂|after the move|ratio|weights move by|loss climbs|R-hat|heat|flags"
    head = [*head.split("|"), "lacks", "enough"]
    print(f"| {' | '.join(head)} |\n|{'---|' * len(head)}", flush=True)
    for network, length in networks(arguments.runs):
        if network.name.startswith(arguments.only):
            for n_beta in N_BETAS:
                for gamma in GAMMAS:
                    print(row(network, n_beta, gamma, length), flush=True)
    print(f"\n{time.process_time() / 60:.1f} minutes of processor time")


if __name__ == "__main__":
    main()
