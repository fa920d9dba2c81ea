r"""Ownership by cause and by ablation in many trained networks, and why they part late.

python analysis/susceptibility_seeds.py runs/paper/*decay-seed[0-7] \
    --json analysis/results/susceptibility-seeds.json --out docs/figures

Needs a run's checkpoints alone: it draws from both heads anew, with few draws. A number is owned by
head 0 or 1 as the ratio of the variances of its loss over their draws says (variance), the
difference of its χ (χ), and mean ablation: the difference of the loss increases (difference), the
heads' shares of them (share, `heads.ranges.shares`) and the difference where half of a head's
output gives way to its mean (near). Networks whose name differs in the seed alone form a group; a
network that the JSON file has is not measured again.
"""

import argparse
import json
import re
import time
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure
from owner_order import order_free, rank, repeats, within

from devsort.charts.axes import over_steps
from devsort.charts.style import PALETTE, WIDTH, look, save_figure
from devsort.execution import one_core, unheard
from devsort.llc.trajectory import Job
from devsort.sorting.checkpoints import load_checkpoint, trained_steps
from devsort.sorting.heads import modes, ranges
from devsort.sorting.heads.measures import answer_loss, loss_increase, residual
from devsort.sorting.model import activations, unembed
from devsort.sorting.run import open_run
from devsort.sorting.samplers import settings
from devsort.sorting.susceptibility.probe import AXES
from devsort.sorting.susceptibility.sampler import ResponseSampler
from devsort.sorting.task import eval_batch
from devsort.storage.objects import write_json
from devsort.susceptibility import susceptibility
from devsort.susceptibility.response import variances

STEPS = (133, 316, 1000, 5000)
HEADS = ("h0", "h1")
FEW = (
    "llc.restrictions=[heads]",
    "llc.parts=[]",
    "llc.dataset_size=2048",
    "susceptibility.lists=192",
    "susceptibility.every=4",
)
LISTS = 1024  # for ablation
NEAR = 0.5  # share of a head's output that gives way to its mean
HALVES = ((0, 1), (0, 2), (0, 3))  # chains of one half; the others are the other half
SEEN = 0.5  # rank correlation with the owners at the end from which they are called visible


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("runs", type=Path, nargs="+")
    parser.add_argument("--steps", type=int, nargs="+", default=STEPS)
    parser.add_argument("--draws", type=int, default=80)
    parser.add_argument("--json", type=Path, required=True)
    parser.add_argument("--out", type=Path, help="folder of the figure")
    args = parser.parse_args()
    found = json.loads(args.json.read_text()) if args.json.exists() else {}
    for path in args.runs:
        if path.name not in found:
            begun = time.process_time()
            found[path.name] = measured(path, args.steps, args.draws)
            print(f"{path.name}: {time.process_time() - begun:.0f} s of the processor", flush=True)
            write_json(args.json, found)
    print(table(found), first_seen(found), sep="\n\n")
    if args.out:
        print(*save_figure(figure(groups(found)), args.out, "susceptibility-seeds"), sep="\n")


def measured(path, steps, draws):
    """Rows of one network, by checkpoint."""
    run = open_run(path, (*FEW, f"llc.sampler.num_draws={draws}"))
    saved = trained_steps(run)
    steps = sorted({min(saved, key=lambda have: abs(have - step)) for step in steps})
    config = settings(run)
    sampler = ResponseSampler(run, {(step, name): config for step in steps for name in HEADS})
    batch = eval_batch(run.config.task, LISTS)
    contrasts = [contrasts_at(run, sampler, batch, step) for step in steps]
    return [
        {"step": step, **row(now, contrasts[-1], run.config.heads)}
        for step, now in zip(steps, contrasts, strict=True)
    ]


@one_core()
def contrasts_at(run, sampler, batch, step):
    """Head 0 against head 1 by number, by each measure, and what is known of their errors."""
    followed = [sampler(Job((step,), name), unheard)[step] for name in HEADS]
    numbers = run.config.task.numbers
    full, near = increases(load_checkpoint(run, step), batch, numbers, (1.0, NEAR))
    own = [by_chi_and_variance(f.chi, f.kernel, run) for f in followed]
    halves = [
        [by_chi_and_variance(f.chi.lanes([*half]), f.kernel.lanes([*half]), run) for f in followed]
        for pair in HALVES
        for half in (pair, tuple(c for c in range(4) if c not in pair))
    ]
    return {
        "χ": own[1][0] - own[0][0],
        "variance": np.log(own[0][1] / own[1][1]),
        "variances": np.stack([value[1] for value in own]),
        "χ halves": [two[1][0] - two[0][0] for two in halves],
        "variance halves": [np.log(two[0][1] / two[1][1]) for two in halves],
        "increase": full,
        "near": near[0] - near[1],
    }


def by_chi_and_variance(chi, kernel, run):
    """χ of each number's answers and the variance of its loss, each (N,)."""
    assert AXES[0] == "number"
    numbers = run.config.task.numbers
    return susceptibility(chi).value[0, :numbers], variances(kernel)[1][0]


@torch.inference_mode()
def increases(params, batch, numbers, shares):
    """Rise of each number's loss (2, N) if a share of a head's output is replaced by its mean."""
    act = activations(params, batch.tokens)
    resid, mean = residual(params, act), act.head_out.mean((0, 2), keepdim=True)
    loss = answer_loss(unembed(params, resid), batch.targets)
    found = []
    for share in shares:
        other = torch.lerp(act.head_out, mean.expand_as(act.head_out), share)
        rise = loss_increase(params, resid, act, batch.targets, loss, other)  # (B, H, L)
        found.append(by_number(rise.movedim(1, 0).flatten(1), batch.targets.flatten(), numbers))
    return found


def by_number(rise, targets, numbers):
    """Means (H, N) over the answers that are a number."""
    member = torch.nn.functional.one_hot(targets, numbers).double()
    return (rise.double() @ member / member.sum(0)).numpy()


def row(now, last, config):
    """The row of one checkpoint."""
    share = ranges.shares({"loss_increase": now["increase"]}, config)
    need = now["increase"][0] - now["increase"][1]
    by = {"difference": need, "share": share[0] - share[1], "near": now["near"]}
    found = {f"variance, {name}": rank(now["variance"], other) for name, other in by.items()}
    of_variance = now["variances"] / now["variances"].sum(0)
    end = last["increase"][0] - last["increase"][1]
    return found | {
        "χ, difference": rank(now["χ"], need),
        "χ repeats": repeats(now["χ halves"]),
        "variance repeats": repeats(now["variance halves"]),
        "same owner": float(np.mean((now["variance"] > 0) == (need > 0))),
        "within owner": within(now["variance"], need),
        "within owner, share": within(now["variance"], by["share"]),
        "order-free": order_free(now["variance"], need),
        "spread of need": float(np.abs(need).std() / np.abs(need).mean()),
        "split by variance": float(modes.split_score(of_variance, config)),
        "split by ablation": float(modes.split_score(share, config)),
        "variance, end": rank(now["variance"], end),
        "ablation, end": rank(need, end),
        "χ, end": rank(now["χ"], end),
    }


def groups(found):
    """Group → rows of each network."""
    named = {}
    for name, rows in found.items():
        named.setdefault(re.sub(r"-?seed\d+$", "", name), []).append(rows)
    return named


def table(found):
    """Mean and standard deviation over networks."""
    lines = []
    for group, networks in groups(found).items():
        keys = [key for key in networks[0][0] if key != "step"]
        steps = [row["step"] for row in networks[0]]
        lines += [
            f"{group}, {len(networks)} networks",
            f"{'':22}" + "".join(f"{s:>14}" for s in steps),
        ]
        for key in keys:
            values = np.array([[row[key] for row in rows] for rows in networks])
            lines.append(f"{key:22}" + "".join(f"{told(column):>14}" for column in values.T))
    return "\n".join(lines)


def told(values):
    spread = f" ± {values.std(ddof=1):.2f}" if len(values) > 1 else ""
    return f"{values.mean():.2f}{spread}"


def first_seen(found):
    """In how many networks the owners of the end are visible first by variance, or by ablation."""
    lines = []
    for group, networks in groups(found).items():
        steps = np.array([row["step"] for row in networks[0]])
        first = {
            key: np.array([seen(steps, [row[f"{key}, end"] for row in rows]) for rows in networks])
            for key in ("variance", "ablation", "χ")
        }
        told = ", ".join(f"{key} {np.median(value):g}" for key, value in first.items())
        earlier = int((first["variance"] < first["ablation"]).sum())
        later = int((first["variance"] > first["ablation"]).sum())
        count = f"variance before ablation in {earlier}, after it in {later} of {len(networks)}"
        lines.append(f"{group}: median first step with the owners of the end: {told}; {count}")
    return "\n".join(lines)


def seen(steps, correlation):
    """First step from which the correlation stays at SEEN or more."""
    below = np.flatnonzero(np.array(correlation) < SEEN)
    start = below[-1] + 1 if len(below) else 0
    return steps[start] if start < len(steps) else np.inf


DRAWN = {
    "variance, difference": "all numbers, difference of increases",
    "variance, share": "all numbers, shares of increases",
    "same owner": "numbers with the same owner",
    "within owner": "within owners, difference",
    "χ, difference": "χ, difference",
}


@look()
def figure(named):
    figure = Figure(figsize=(WIDTH, 3.2), layout="constrained")
    axes = figure.subplots(1, len(named), sharey=True, squeeze=False)[0]
    for ax, (group, networks) in zip(axes, named.items(), strict=True):
        steps = [row["step"] for row in networks[0]]
        for (key, label), colour in zip(DRAWN.items(), PALETTE, strict=False):
            values = np.array([[row[key] for row in rows] for rows in networks])
            ax.plot(steps, values.mean(0), "-o", ms=3, color=colour, label=label)
            low, high = values.min(0), values.max(0)
            ax.fill_between(steps, low, high, color=colour, alpha=0.15, lw=0)
        over_steps(ax, "log", steps[0], steps[-1])
        ax.set_title(f"{group}, {len(networks)} networks")
        ax.set_xlabel("training step")
    axes[0].set_ylabel("agreement with ablation")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
    return figure


if __name__ == "__main__":
    main()
