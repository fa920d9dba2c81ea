"""Does the LLC depend on the units of the weights? Random exact symmetries on checkpoints of both
runs.

python analysis/units.py runs --moves 200 --json analysis/results/units.json

Each checkpoint is first lifted: its residual stream is scaled up until layer norm's ε = 1e-5 is
below a millionth of its variance for all factors in use, so that every move leaves the function
alone exactly. A move scales the stream, each head's OV and QK circuit and both norms by factors
from 0.2 to 5 of their own, permutes the heads and rotates their bases. Its LLC, with noise and
minibatches of its own, is compared with the lifted checkpoint's, from more chains.
"""

import argparse
import json
from pathlib import Path

import numpy as np
import torch
from geometry_cost import with_sampler
from scipy.stats import kstest

from devsort.artifacts import load_checkpoint, open_run
from devsort.config import SamplerConfig
from devsort.llc import Context, estimate
from devsort.llc.workers import Worker
from devsort.model import Params, forward
from devsort.planted import draw_network
from devsort.sampling.trace import Trace
from devsort.symmetries import basis, folded, lifted, random_move, scaled
from devsort.task import sampling_set

STEPS = {"baseline": (68, 91, 215, 383, 825, 6000), "no-decay": (215, 825, 6000)}
BASE = 4  # times as many chains at the checkpoint itself
SETTINGS = {"geometry": "relative", "lr": 4e-3, "n_beta": 1000.0, "localization": 6.67,
            "num_chains": 8, "num_burnin_steps": 40, "num_draws": 60, "batch_size": 8}  # fmt: skip
ABSOLUTE = {"geometry": "absolute", "lr": 1.3e-5, "localization": 1000.0}


def sampled(run, networks: list[Params], seed: int, restriction: str = "full") -> list[Trace]:
    """Traces of networks, each with noise of its own, two side by side."""
    worker, traces = Worker(with_sampler(run, seed=seed), (restriction,)), []
    for i in range(0, len(networks), 2):
        group = {10_000 * seed + i + k: p for k, p in enumerate(networks[i : i + 2])}
        traces += [trace for (trace,) in worker(group, lambda _: None).values()]
    return traces


def compared(run, params: Params, moved: list[Params], seed: int, name: str = "full") -> list[dict]:
    """LLC of each moved network beside that of the network itself."""
    config: SamplerConfig = run.config.llc.sampler
    many = with_sampler(run, num_chains=BASE * config.num_chains)
    (at_home,) = sampled(many, [params], 2 * seed + 1, name)
    home, rows = estimate(at_home, Context.of(config)), []
    for k, p in enumerate(moved):  # other minibatches for each
        (trace,) = sampled(run, [p], 1000 * (seed + 1) + k, name)
        e = estimate(trace, Context.of(config))
        z = (e.llc - home.llc) / np.hypot(e.se, home.se)
        rows.append({"home": home.llc, "home_se": home.se, "llc": e.llc, "se": e.se, "z": float(z)})
    return rows


def same_path(run, params: Params, moved: Params) -> float:
    """Largest relative difference of the loss between chains with the same noise."""
    run = with_sampler(run, num_chains=2)
    worker = Worker(run, ("full",))
    a, b = (worker({0: p}, lambda _: None)[0][0] for p in (params, moved))
    return float(np.abs(b.loss / a.loss - 1).max())


def report(name: str, rows: list[dict], told: str = "") -> None:
    z = np.array([row["z"] for row in rows])
    llc, home = np.array([row["llc"] for row in rows]), rows[0]
    se = float(np.mean([row["se"] for row in rows]))
    print(
        f"{name:28} LLC {home['home']:7.1f} ± {home['home_se']:4.1f}  moved {llc.mean():7.1f} "
        f"({llc.min():.1f}–{llc.max():.1f}, SE {se:.1f})  "
        f"|z| ≤ 2: {(abs(z) <= 2).sum():3d} of {len(z):3d}  "
        f"mean z {z.mean():+.2f}  sd {z.std():.2f}  {told}",
        flush=True,
    )


def networks(folder: Path):
    """(name, run, lifted network, largest change of a logit under lifting)."""
    for run_name, steps in STEPS.items():
        run = with_sampler(open_run(folder / run_name), **SETTINGS)
        for step in steps:
            params = load_checkpoint(run, step)
            yield f"{run_name} {step}", run, lifted(params)
    run = with_sampler(open_run(folder / "baseline"), **SETTINGS)
    planted = draw_network("overlap", run.config.task, run.config.model, 0, 0, noise=0.3)[0]
    yield "planted, noise 0.3", run, lifted(planted)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("runs", type=Path)
    parser.add_argument("--moves", type=int, default=200)
    parser.add_argument("--only", default="", help="moves, paths, rotations or absolute")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    found: dict[str, list[dict]] = {}
    all_networks = list(networks(arguments.runs))
    tokens = sampling_set(all_networks[0][1].config.task, 64).tokens
    if arguments.only in ("", "moves"):
        each, worst = arguments.moves // len(all_networks), 0.0
        for seed, (name, run, params) in enumerate(all_networks):
            generator = torch.Generator().manual_seed(seed)
            moved = [random_move(params, generator)[1] for _ in range(each)]
            logits = forward(params, tokens)
            off = max(float((forward(p, tokens) - logits).abs().max()) for p in moved)
            worst = max(worst, off)
            found[name] = compared(run, params, moved, seed)
            report(name, found[name], f"logits {off:.0e}")
        z = np.array([row["z"] for rows in found.values() for row in rows])
        print(f"all: |z| ≤ 2 in {(abs(z) <= 2).mean():.1%} of {len(z)}; sd of z {z.std():.2f}; "
              f"Kolmogorov–Smirnov against a normal p = {kstest(z, 'norm').pvalue:.2f}; "
              f"largest change of a logit {worst:.1e}", flush=True)  # fmt: skip
    if arguments.only in ("", "paths"):
        for seed, (name, run, params) in enumerate(all_networks):
            scale_only = random_move(params, torch.Generator().manual_seed(seed), plain=True)[1]
            off = same_path(run, params, scale_only)
            print(
                f"{name:28} chain with the same noise, after scalings alone: loss within {off:.0e}",
                flush=True,
            )
            found[f"{name} path"] = [{"off": off}]
    if arguments.only in ("", "rotations"):
        for name, run, params in (
            n for n in all_networks if n[0] in ("baseline 91", "no-decay 825")
        ):
            plain = folded(params)
            generator = torch.Generator().manual_seed(1)
            moved = [basis(plain, generator) for _ in range(6)]
            found[f"{name} rotated"] = compared(run, plain, moved, 50, "*W_*")
            report(f"{name}, basis rotated, W_*", found[f"{name} rotated"])
    if arguments.only in ("", "absolute"):
        for name, run, params in (n for n in all_networks if n[0] == "baseline 91"):
            native = scaled(
                params, "stream", 0.0828 / float(params["embed.W_E"].square().mean().sqrt())
            )
            generator = torch.Generator().manual_seed(1)
            moved = [random_move(native, generator)[1] for _ in range(4)]
            away = with_sampler(run, **ABSOLUTE, num_burnin_steps=150, num_draws=60)
            found[f"{name} absolute"] = compared(away, native, moved, 60)
            report(f"{name}, absolute", found[f"{name} absolute"])
    if arguments.json:
        arguments.json.parent.mkdir(exist_ok=True, parents=True)
        arguments.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
