"""When is absolute geometry enough: for which nβ and γ is its LLC the same in other units?

python analysis/absolute_limits.py runs

Three kinds of network are sampled in absolute geometry with the same settings, each as it is and
after an exact symmetry. The small networks are moved both ways, so that a chance agreement at one
factor does not pass:

| network     | what                                                          | by 2, by 1/2      |
|-------------|---------------------------------------------------------------|-------------------|
| deep linear | 4-4-4-4, |W3 W2 W1 − T|² with T of rank 2; its λ is known     | W1 by a, W3 / a   |
| ReLU        | 4-8-1, squared error on 300 points with its own labels        | W1, b1 by a, W2/a |
| sorter      | the baseline at steps 91 and 6000, minibatches of 32          | stream × 2 alone  |

The step is ε = 1 / (nβ h + γ), and half of that for the small networks. Here h is the largest
curvature of the loss over all units, either at w* or at w* moved by N(0, 1/γ) as in
`devsort calibrate`: the smaller of the two if the chains are stable then, else the larger.

| column    | holds if                                                                             |
|-----------|--------------------------------------------------------------------------------------|
| invariant | every move's estimate agrees within 2 combined standard errors, or within 5 %; and   |
|           | the error of the difference is at most 10 %                                          |
| local     | weights move by less than their scale (the median over blocks), and the loss climbs  |
|           | at most a quarter of the way to that of a constant guess                             |
| converged | no flag is raised (R-hat, drift, starting peak, equilibrium, …), and the heat, the   |
|           | share of E[(w − w*)·G] that step size and minibatches add, is at most 25 %           |

`enough` requires all three in all units; otherwise the table names what is missing. Chains are
short: 4000 steps for the small networks, 300 for the sorter; longer ones converge at smaller γ.
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
SMALL = {"num_chains": 16, "num_burnin_steps": 1500, "num_draws": 1250, "num_steps_bw_draws": 2}
SORTER = {"num_chains": 3, "num_burnin_steps": 100, "num_draws": 200, "batch_size": 32}
LISTS = 128  # for the curvature of a sorter
Units = tuple[Params, ...]
Loss = Callable[[Params], Tensor]  # weights of lanes (G, …) → (G,)
UNSTABLE = {"diverged", "dead_chains", "starting_peak", "chance_level"}


@dataclass(frozen=True)
class Network:
    """A network in some systems of units.

    Attributes:
        name: Name, with the known λ if there is one.
        units: Weights as they are, and after each move.
        gradient: (2, P) weights of two lanes → (2, P) gradients of the loss.
        sampled: Config → the trace in each of the units.
        scales: The scale of every weight, in each of the units.
        chance: Loss of a constant guess.
        step: ε (nβ h + γ).
    """

    name: str
    units: Units
    gradient: Callable[[Tensor], Tensor]
    sampled: Callable[[SamplerConfig], list[Trace]]
    scales: Units
    chance: float
    step: float = 0.5

    def curvature(self, gamma: float) -> float:
        """Largest curvature over all units, at w* moved by N(0, 1/γ)."""
        values = []
        for params in self.units:
            w = Layout.of(params).flatten(params)
            noise = torch.randn(w.shape, generator=torch_stream(0, "absolute-limits"))
            values.append(largest_curvature(self.gradient, w + noise / gamma**0.5))
        return max(values)


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


def small(name: str, loss: Loss, params: Params, move: dict[str, int], guess: float) -> Network:
    """A network whose loss depends on its weights alone; a move by a multiplies them by a^power."""
    units = tuple({n: a ** move.get(n, 0) * p for n, p in params.items()} for a in (1.0, 2.0, 0.5))
    layout = Layout.of(params)

    def lanes(w: Tensor) -> Lanes:
        return Lanes(loss, layout, w)

    def sampled(config: SamplerConfig) -> list[Trace]:
        chains = config.num_chains
        center = torch.stack([layout.flatten(p) for p in units]).repeat_interleave(chains, 0)
        streams = [(i, c) for i in range(len(units)) for c in range(chains)]
        with one_core():
            trace = run_chains(lanes(center), config, streams)
        starts = range(0, len(streams), chains)
        return [trace.chains(slice(i, i + chains)) for i in starts]

    scales = tuple(map(block_scales, units))
    return Network(name, units, lambda w: lanes(w)(w, 0)[2], sampled, scales, guess)


def sorter(run: Run, step: int) -> Network:
    params = load_checkpoint(run, step)
    units = (params, scaled(params, "stream", 2.0))
    sampler = SortSampler(run)
    kernel, lists = sampler.kernels[0], sampler.data[slice(0, LISTS)]
    batch = Batch(lists.tokens.expand(2, -1, -1), lists.targets.expand(2, -1, -1))

    def sampled(config: SamplerConfig) -> list[Trace]:
        by_units = traces(with_sampler(run, **config.model_dump()), dict(enumerate(units)))
        return list(by_units.values())

    scales = tuple(sorter_scales(p, sampler.shape) for p in units)
    slope = lambda w: kernel.value_and_grad(w, batch)[1]  # noqa: E731
    return Network(f"sorter, step {step}", units, slope, sampled, scales, chance_loss(run), 1.0)


def networks(folder: Path) -> Iterator[tuple[Network, dict]]:
    """Each network, with the length of its chains."""
    yield linear(), SMALL
    yield relu(), SMALL
    run = open_run(folder / "baseline")
    for step in (91, 6000):
        yield sorter(run, step), SORTER


def linear() -> Network:
    case = linear_network((4, 4, 4, 4), 2)
    target = torch.diag(torch.tensor([1.0, 1.0, 0.0, 0.0]))

    def loss(p: Params) -> Tensor:
        return (p["W3"] @ p["W2"] @ p["W1"] - target).square().sum((-1, -2))

    name = f"deep linear, λ = {case.limit.value:g}"
    return small(name, loss, case.star, {"W1": 1, "W3": -1}, float(target.square().sum()))


def relu() -> Network:
    generator = torch_stream(0, "relu")
    shapes = {"W1": (8, 4), "b1": (8,), "W2": (1, 8), "b2": (1,)}
    params = {n: torch.randn(s, generator=generator) / 2 for n, s in shapes.items()}
    x = torch.randn(300, 4, generator=generator)

    def values(p: Params) -> Tensor:
        hidden = (x @ p["W1"].mT + p["b1"][..., None, :]).relu()
        return (hidden @ p["W2"].mT)[..., 0] + p["b2"]

    y = values(params)
    move = {"W1": 1, "b1": 1, "W2": -1}
    variance = float(y.var(unbiased=False))
    return small("ReLU", lambda p: (values(p) - y).square().mean(-1), params, move, variance)


def measure(network: Network, n_beta: float, gamma: float, length: dict):
    """The config and the traces, at the larger step if it is stable."""
    for h in sorted((network.curvature(gamma), network.curvature(math.inf))):
        lr = network.step / (n_beta * h + gamma)
        config = SamplerConfig(
            geometry="absolute", lr=lr, n_beta=n_beta, localization=gamma, **length
        )
        results = network.sampled(config)
        flags = {f for t in results for f in estimate(t, chance_loss=network.chance).flags}
        if not flags & UNSTABLE and max(map(heat, results)) <= LIMITS["heat"]:
            break
    return config, results


def heat(trace: Trace) -> float:
    """(ε/4) E|G|² / d."""
    return float(trace.config.lr / 4 * trace.force.mean() / trace.dimension)


def missing(estimates: list[Estimate], share: float, hot: float) -> list[str]:
    """What an estimate in these units lacks."""
    first, checks = estimates[0], {}
    errors = [math.hypot(first.se, e.se) for e in estimates[1:]]
    near = [max(2 * error, LIMITS["difference"] * first.llc) for error in errors]
    same = all(abs(e.llc - first.llc) <= n for e, n in zip(estimates[1:], near, strict=True))
    climb = max(e.diagnostics.climb for e in estimates)
    checks["invariant"] = same and max(errors) <= LIMITS["error"] * first.llc
    checks["local"] = share <= LIMITS["share"] and climb <= LIMITS["climb"]
    checks["converged"] = not any(e.flags for e in estimates) and hot <= LIMITS["heat"]
    return [name for name, holds in checks.items() if not holds]


def row(network: Network, n_beta: float, gamma: float, length: dict) -> str:
    config, results = measure(network, n_beta, gamma, length)
    estimates = [estimate(t, chance_loss=network.chance) for t in results]
    share = max(
        float((t.distance.mean() / t.dimension) ** 0.5 / middle(s))
        for t, s in zip(results, network.scales, strict=True)
    )
    hot = max(map(heat, results))
    lacks = missing(estimates, share, hot)
    values = [f"{e.llc:.4g} ± {e.se:.2g}" for e in estimates]
    cells = [network.name, f"{n_beta:g}", f"{gamma:g}", f"{config.lr:.1e}", values[0]]
    cells += ["; ".join(values[1:]), f"{share:.2f}"]
    cells += [f"{max(e.diagnostics.climb for e in estimates):.1%}"]
    cells += [f"{max(e.rhat for e in estimates):.2f}", f"{hot:.1%}"]
    cells += [", ".join(sorted({f for e in estimates for f in e.flags}))]
    return f"| {' | '.join([*cells, ', '.join(lacks), 'no' if lacks else '**yes**'])} |"


def middle(scales: Params) -> float:
    return float(torch.cat([s.flatten() for s in scales.values()]).median())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("runs", type=Path)
    parser.add_argument("--only", default="", help="only networks whose name starts with this")
    arguments = parser.parse_args()
    head = "network|nβ|γ|ε|λ̂|moved by 2; by 1/2|weights move by|loss climbs|R-hat|heat|flags"
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
