"""Does the LLC depend on the units of the weights? Random exact symmetries of ten networks.

python analysis/units.py runs --moves 200 --json analysis/results/units.json

The networks are nine checkpoints of both runs, and a random network of the initial scale whose
labels are drawn from its own distribution, so that it is a minimum. Each is first lifted: its
residual stream is scaled up until layer norm's ε = 1e-5 is below a millionth of its variance for
all factors in use, so that every move leaves the function exactly unchanged. A move scales the
stream, each head's OV and QK circuit and both norms, each by its own factor from 0.2 to 5, permutes
the heads and rotates their bases. Its LLC, with its own noise and minibatches, is compared with
that of the lifted network.

The rule was fixed before the first of these chains was run: 20 moves per network, each estimated
from 8 chains, and the lifted network from 32, at the default settings of relative geometry
(nβ = 1000). There are 60 steps of burn-in, after which a pilot with other seeds (steps 68, 383,
825) showed no trend, and 80 draws, as many as 20 minutes allow. All moves are sampled with the
momentum and minibatches that the network itself needed (`devsort.llc.settle`): this tests the
geometry, not the sampler's choice near its threshold. Chains without momentum, which networks
without decay need, forget in some 30 steps, so that 80 draws are too few to show their error;
`--draws 200` is the shipped number. (The random network still climbs by 5 % after the burn-in, both
before and after a move.) With d the difference and s the combined standard error,

    t:  |d| ≤ q s, q the 97.5 % quantile of Student's t with Welch's degrees of freedom of the pair
    z:  |d| ≤ 2 s

and the share of the 200 moves that satisfies each is reported. Correct errors of normal averages
give 95 % by t and 94 % by z, because an error from 8 chains is itself uncertain.
"""

import argparse
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from geometry_tools import ABSOLUTE, RELATIVE, rms, traces, with_sampler
from scipy.stats import kstest, t

from devsort.llc import estimate
from devsort.rng import torch_stream
from devsort.sampling import Trace
from devsort.sorting.checkpoints import load_checkpoint
from devsort.sorting.model import Params, forward, init_params, model_shape
from devsort.sorting.run import Run, open_run
from devsort.sorting.symmetries import basis, folded, lifted, random_move, scaled
from devsort.sorting.task import Batch, sampling_set

STEPS = {"baseline": (68, 91, 215, 383, 825, 6000), "no-decay": (215, 825, 6000)}
CHAINS, AT_HOME = 8, 32
LENGTH = {"n_beta": 1000.0, "num_burnin_steps": 60, "num_draws": 80}
ROTATED = ("baseline 91", "no-decay 825")
CHUNK = 256  # lists per forward pass


@dataclass(frozen=True)
class Network:
    """A network, the run that gives its task, and its own data if they are not the run's."""

    name: str
    run: Run
    params: Params
    data: Batch | None = None

    def sampled(self, params: Params, seed: int, chains: int, name: str = "full", **more) -> Trace:
        """Chains at these weights, with noise and minibatches of this seed."""
        run = with_sampler(self.run, **{**RELATIVE, **LENGTH, **more}, num_chains=chains, seed=seed)
        return traces(run, {0: params}, name, self.data)[0]


def networks(folder: Path) -> Iterator[Network]:
    """The ten networks, lifted."""
    runs = {name: open_run(folder / name) for name in STEPS}
    for name, run in runs.items():
        for step in STEPS[name]:
            yield Network(f"{name} {step}", run, lifted(load_checkpoint(run, step)))
    run = runs["baseline"]
    model = run.config.model
    params = lifted(init_params(model_shape(run.config.task, model), model.init_scale, 5))
    lists = sampling_set(run.config.task, run.config.llc.dataset_size)
    yield Network("random, own labels", run, params, own_labels(params, lists))


def own_labels(params: Params, lists: Batch) -> Batch:
    """The lists with answers drawn from what the network itself predicts."""
    generator, answers = torch_stream(0, "own-labels"), []
    for i in range(0, len(lists), CHUNK):
        predicted = forward(params, lists.tokens[i : i + CHUNK]).softmax(-1)
        answers.append(torch.multinomial(predicted.flatten(0, 1), 1, generator=generator))
    return Batch(lists.tokens, torch.cat(answers).view(lists.targets.shape))


def compare(
    network: Network, params: Params, moved: list[Params], seed: int, name: str = "full", **more
) -> list[dict]:
    """LLC of each moved network, and that of the network itself; all seeds differ."""
    trace, rows = network.sampled(params, 100 * seed, AT_HOME, name, **more), []
    home = estimate(trace)
    more |= trace.config.model_dump(include={"momentum", "batch_size"})
    for k, p in enumerate(moved, 1):
        e = estimate(network.sampled(p, 100 * seed + k, CHAINS, name, **more))
        s2 = np.array([e.se**2, home.se**2])
        dof = s2.sum() ** 2 / (s2**2 / [2 * (CHAINS - 1), 2 * (AT_HOME - 1)]).sum()
        z = float((e.llc - home.llc) / np.sqrt(s2.sum()))
        row = {"llc": e.llc, "se": e.se, "rhat": e.rhat, "z": z, "dof": float(dof)}
        row |= {"within t": bool(abs(z) <= t.ppf(0.975, dof)), "within 2": abs(z) <= 2}
        rows.append({"home": home.llc, "home_se": home.se, "home_rhat": home.rhat, **row})
    return rows


def same_path(network: Network, moved: Params) -> float:
    """Largest relative difference of the loss between chains with the same noise."""
    changes = {**RELATIVE, **LENGTH, "num_chains": 2, "num_burnin_steps": 40, "num_draws": 60}
    run = with_sampler(network.run, **changes)
    a, b = (traces(run, {0: p}, "full", network.data)[0] for p in (network.params, moved))
    return float(np.abs(b.loss / a.loss - 1).max())


def line(name: str, rows: list[dict], note: str = "") -> None:
    z, llc = np.array([r["z"] for r in rows]), np.array([r["llc"] for r in rows])
    n, home, se = len(rows), rows[0], np.sqrt(np.mean([r["se"] ** 2 for r in rows]))
    t_in, z_in = (sum(r[rule] for r in rows) for rule in ("within t", "within 2"))
    print(
        f"{name:28} {home['home']:7.1f} ± {home['home_se']:3.1f} (R-hat {home['home_rhat']:.2f})  "
        f"moved {llc.mean():7.1f} ± {llc.std(ddof=1) / n**0.5:3.1f} "
        f"({llc.min():.0f}–{llc.max():.0f}; SD {llc.std(ddof=1):.1f}, SE {se:.1f})  "
        f"t: {t_in:2d} z: {z_in:2d} of {n}  z {z.mean():+.2f} ± {z.std(ddof=1):.2f}  {note}",
        flush=True,
    )


def moves(every: list[Network], count: int, draws: int, results: dict) -> None:
    worst = 0.0
    for seed, network in enumerate(every, 1):
        generator = torch.Generator().manual_seed(seed)
        moved = [random_move(network.params, generator)[1] for _ in range(count // len(every))]
        tokens = sampling_set(network.run.config.task, 64).tokens
        logits = forward(network.params, tokens)
        off = max(float((forward(p, tokens) - logits).abs().max()) for p in moved)
        worst = max(worst, off)
        results[network.name] = compare(network, network.params, moved, seed, num_draws=draws)
        line(network.name, results[network.name], f"logits {off:.0e}")
    rows = [row for network in every for row in results[network.name]]
    u = [2 * t.sf(abs(r["z"]), r["dof"]) for r in rows]  # uniform if the errors are right
    print(
        f"all: within t {np.mean([r['within t'] for r in rows]):.1%}, within 2 SE "
        f"{np.mean([r['within 2'] for r in rows]):.1%} of {len(rows)}; Kolmogorov–Smirnov of the "
        f"p-values p = {kstest(u, 'uniform').pvalue:.2g}; largest change of a logit {worst:.0e}",
        flush=True,
    )


def paths(every: list[Network], results: dict) -> None:
    for seed, network in enumerate(every, 1):
        moved = random_move(network.params, torch.Generator().manual_seed(seed), plain=True)[1]
        off = same_path(network, moved)
        results[f"{network.name}, path"] = [{"off": off}]
        text = "chain with the same noise, after scalings alone: loss within"
        print(f"{network.name:28} {text} {off:.0e}", flush=True)


def rotations(every: list[Network], results: dict) -> None:
    for seed, network in enumerate((n for n in every if n.name in ROTATED), 50):
        plain, generator = folded(network.params), torch.Generator().manual_seed(1)
        moved = [basis(plain, generator) for _ in range(6)]
        name = f"{network.name}, basis rotated, W_*"
        results[name] = compare(network, plain, moved, seed, "*W_*")
        line(name, results[name])


def absolute(every: list[Network], results: dict) -> None:
    """The same moves in absolute geometry, from the scale that training gave the stream."""
    (network,) = (n for n in every if n.name == "baseline 91")
    trained = load_checkpoint(network.run, 91)
    factor = rms(trained, "embed.W_E") / rms(network.params, "embed.W_E")
    native = scaled(network.params, "stream", factor)
    generator = torch.Generator().manual_seed(1)
    moved = [random_move(native, generator)[1] for _ in range(4)]
    name = f"{network.name}, absolute"
    results[name] = compare(network, native, moved, 60, **ABSOLUTE, num_burnin_steps=150)
    line(name, results[name])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("runs", type=Path)
    parser.add_argument("--moves", type=int, default=200)
    parser.add_argument("--draws", type=int, default=LENGTH["num_draws"], help="of each chain")
    parser.add_argument("--only", choices=("moves", "paths", "rotations", "absolute"))
    parser.add_argument("--network", action="append", help="only this one, such as 'no-decay 215'")
    parser.add_argument("--json", type=Path, help="file to which the results are added")
    arguments = parser.parse_args()
    named = arguments.network
    every, results = [n for n in networks(arguments.runs) if not named or n.name in named], {}
    parts = {
        "moves": lambda: moves(every, arguments.moves, arguments.draws, results),
        "paths": lambda: paths(every, results),
        "rotations": lambda: rotations(every, results),
        "absolute": lambda: absolute(every, results),
    }
    for name in [arguments.only] if arguments.only else parts:
        parts[name]()
        if arguments.json:
            old = json.loads(arguments.json.read_text()) if arguments.json.exists() else {}
            arguments.json.write_text(json.dumps(old | results, indent=1) + "\n")


if __name__ == "__main__":
    main()
