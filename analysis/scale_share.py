"""How much of the absolute LLC's development is the scale of the weights?

python analysis/scale_share.py runs --json analysis/results/scale_share.json --figure
scale_share.svg

Absolute geometry measures a checkpoint at the scales that training left it with. Each checkpoint is
also measured after the exact symmetry that brings the scales of one reference checkpoint back:
W_E's root mean square and both gains become the reference's, and so do the ratios W_V : W_O and W_Q
: W_K of each head (seven factors; the products behind them are the function's own and stay). The
function is the same, so what changes is scale. Printed are the shares of the rise, of the peak and
of the difference between decay and no decay, with standard errors.
"""

import argparse
import json
from pathlib import Path

import numpy as np
from geometry_cost import with_sampler

from devsort.artifacts import Run, load_checkpoint, open_run
from devsort.llc import estimate
from devsort.llc.workers import Worker, chance_context, settings
from devsort.model import ATTN, Params
from devsort.symmetries import scaled

REFERENCE = ("baseline", 91)
STEPS = {"baseline": (68, 91, 383, 825, 6000), "no-decay": (68, 825, 6000)}
PEAK, END = 825, 6000
KINDS = {
    "absolute": {"geometry": "absolute"},
    "rescaled": {"geometry": "absolute"},
    "relative": {"geometry": "relative", "localization": 6.66, "lr": 4e-3},
}
COLORS = {"absolute": "#0072B2", "rescaled": "#E69F00", "relative": "#009E73"}  # Okabe–Ito
BLOCKS = {"W_E": "embed.W_E", "W_pos": "pos_embed.W_pos", "W_V": ATTN + "W_V", "W_O": ATTN + "W_O",
          "W_Q": ATTN + "W_Q", "W_U": "unembed.W_U", "gain 1": "blocks.0.ln1.w"}  # fmt: skip


def rms(params: Params, name: str, head: int | None = None) -> float:
    value = params[name] if head is None else params[name][head]
    return float(value.double().square().mean().sqrt())


def at_scales_of(params: Params, reference: Params) -> Params:
    """The same function at the reference's scales, as far as the symmetries reach."""
    for move, name in (
        ("ln1", "blocks.0.ln1.w"),
        ("ln_final", "ln_final.w"),
        ("stream", "embed.W_E"),
    ):
        params = scaled(params, move, rms(reference, name) / rms(params, name))
    for head in range(len(params[ATTN + "W_V"])):
        for move, up, down in (("ov", "W_V", "W_O"), ("qk", "W_Q", "W_K")):
            here, there = (
                rms(p, ATTN + up, head) / rms(p, ATTN + down, head) for p in (params, reference)
            )
            params = scaled(params, move, (there / here) ** 0.5, head)
    return params


def measured(run: Run, kind: str, params: dict[int, Params]) -> dict[int, dict]:
    """step → llc and se, checkpoints side by side."""
    run = with_sampler(run, **KINDS[kind])
    traces = Worker(run, ("full",))(params, lambda _: None)
    context = chance_context(run, settings(run))
    found = {step: estimate(trace, context) for step, (trace,) in traces.items()}
    return {s: {"llc": e.llc, "se": e.se, "flags": list(e.flags)} for s, e in found.items()}


def share(part: tuple[float, float], whole: tuple[float, float]) -> tuple[float, float]:
    """1 − part/whole with its error; both are (value, SE)."""
    ratio = part[0] / whole[0]
    return 1 - ratio, abs(ratio) * float(np.hypot(part[1] / part[0], whole[1] / whole[0]))


def less(a: dict, b: dict) -> tuple[float, float]:
    return a["llc"] - b["llc"], float(np.hypot(a["se"], b["se"]))


def shares(rows: dict) -> dict[str, tuple[float, float]]:
    """Share of each feature of the absolute curve that is scale."""

    def of(kind: str, run: str, step: int) -> dict:
        return rows[f"{kind} {run} {step}"]

    first = REFERENCE[1]
    rise = [
        less(of(k, "baseline", PEAK), of(k, "baseline", first)) for k in ("rescaled", "absolute")
    ]
    peak = [
        (v["llc"], v["se"]) for v in (of(k, "baseline", PEAK) for k in ("rescaled", "absolute"))
    ]
    decay = [less(of(k, "baseline", END), of(k, "no-decay", END)) for k in ("rescaled", "absolute")]
    return {
        f"rise {first} → {PEAK}": share(*rise),
        f"height at the peak {PEAK}": share(*peak),
        f"decay less no decay at {END}": share(*decay),
    }


def figure(rows: dict, scales: dict, path: Path) -> None:
    import matplotlib.pyplot as plt

    fig, axes = plt.subplots(2, 2, figsize=(10, 6), sharex=True, sharey="row", layout="constrained")
    for column, (run, steps) in zip(axes.T, STEPS.items(), strict=True):
        for kind, marker in zip(KINDS, "osD", strict=True):
            value = [rows[f"{kind} {run} {s}"] for s in steps]
            told = f"absolute, at the scales of {REFERENCE[0]} {REFERENCE[1]}"
            look = {"marker": marker, "color": COLORS[kind], "capsize": 2}
            look["label"] = told if kind == "rescaled" else kind
            llc, error = [v["llc"] for v in value], [2 * v["se"] for v in value]
            column[0].errorbar(steps, llc, error, **look)
        for (name, values), style in zip(
            scales[run].items(), ("-", "--", "-.", ":", "-", "--", "-."), strict=True
        ):
            column[1].plot(*zip(*values, strict=True), style, label=name)
        column[0].set(title=run, ylabel="LLC (± 2 SE)", yscale="log")
        column[1].set(
            xlabel="training step", ylabel="scale of the block (RMS)", yscale="log", xscale="log"
        )
    axes[0, 0].legend(fontsize=8)
    axes[1, 0].legend(fontsize=8, ncols=2)
    fig.savefig(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("runs", type=Path)
    parser.add_argument(
        "--json", type=Path, required=True, help="what is there already is not measured again"
    )
    parser.add_argument("--figure", type=Path)
    arguments = parser.parse_args()
    rows = json.loads(arguments.json.read_text()) if arguments.json.exists() else {}
    reference = load_checkpoint(open_run(arguments.runs / REFERENCE[0]), REFERENCE[1])
    scales: dict[str, dict] = {}
    for run_name, steps in STEPS.items():
        run = open_run(arguments.runs / run_name)
        params = {step: load_checkpoint(run, step) for step in steps}
        scales[run_name] = {
            told: [(step, rms(p, name)) for step, p in params.items()]
            for told, name in BLOCKS.items()
        }
        for kind in KINDS:
            todo = {s: p for s, p in params.items() if f"{kind} {run_name} {s}" not in rows}
            if kind == "rescaled":
                todo = {s: at_scales_of(p, reference) for s, p in todo.items()}
            for i in range(0, len(todo), 4):
                group = dict(list(todo.items())[i : i + 4])
                found = measured(run, kind, group)
                rows |= {f"{kind} {run_name} {s}": row for s, row in found.items()}
                arguments.json.write_text(json.dumps(rows, indent=1) + "\n")
            for s in steps:
                row = rows[f"{kind} {run_name} {s}"]
                told = f"{row['llc']:8.1f} ± {row['se']:5.1f}  {','.join(row['flags'])}"
                print(f"{kind:9} {run_name:9} {s:5d}  {told}", flush=True)
    for name, (value, se) in shares(rows).items():
        print(f"share of scale: {name:28} {value:6.1%} ± {se:.1%}")
    if arguments.figure:
        figure(rows, scales, arguments.figure)


if __name__ == "__main__":
    main()
