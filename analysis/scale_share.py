"""How much of the absolute LLC's development is the scale of the weights?

python analysis/scale_share.py runs

Absolute geometry measures a checkpoint at the scales that training gave it. Each checkpoint is also
measured after an exact symmetry that restores the scales of one reference checkpoint: W_E's root
mean square and both gains become those of the reference, and so do the ratios W_V : W_O and
W_Q : W_K of each head (seven factors; the products W_V W_O and W_Q W_Kᵀ belong to the function and
stay). The function is the same, so only scale changes. The script prints the shares of scale in the
rise, in the peak and in the difference between decay and no decay, for the whole model and for each
head, with standard errors (those of sampling; the reference is one measurement, not two).

Only layer norm's ε = 1e-5 does not scale with the weights; how much this changes the loss is
printed too.
"""

import argparse
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
from geometry_tools import ABSOLUTE, RELATIVE, rms, traces, with_sampler
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from devsort.charts import style
from devsort.charts.axes import label as label_axis
from devsort.charts.axes import over_steps
from devsort.charts.curves import flag_handle, flag_title
from devsort.llc import estimate
from devsort.sorting.checkpoints import load_checkpoint
from devsort.sorting.model import ATTN, Params
from devsort.sorting.run import Run, open_run
from devsort.sorting.samplers import chance_loss
from devsort.sorting.symmetries import scaled
from devsort.storage.files import write_atomic

RUNS = ("baseline", "no-decay")
REFERENCE, PEAK, END = 91, 825, 6000  # the reference is the baseline's
STEPS = (29, 46, 68, 91, 147, 215, 383, 562, 825, 1468, 2800, 6000)
HEADS = ("h0", "h1")
KINDS = {"absolute": ABSOLUTE, "rescaled": ABSOLUTE, "relative": RELATIVE}
AT_ONCE = 4  # checkpoints measured before the results are saved
CURVES = {
    "absolute": (style.PALETTE[0], "o", "absolute geometry"),
    "rescaled": (style.PALETTE[1], "s", f"absolute, at the scales of baseline step {REFERENCE}"),
    "relative": (style.PALETTE[2], "D", "relative geometry"),
}  # colour, marker, label
BLOCKS = {
    "gain of the first norm": ("blocks.0.ln1.w", style.PALETTE[4], "-."),
    "W_U": ("unembed.W_U", style.PALETTE[5], (0, (5, 1))),
    "W_Q": (ATTN + "W_Q", style.PALETTE[9], "-"),
    "W_V": (ATTN + "W_V", style.PALETTE[7], "--"),
    "W_E": ("embed.W_E", style.INK, "-"),
    "W_pos": ("pos_embed.W_pos", style.INK, ":"),
}  # parameter, colour, line; the scale of W_O is that of W_V to within a few per cent
Rows = dict[str, dict]  # "kind run step restriction" → estimate


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


def measured(run: Run, params: dict[int, Params], restriction: str) -> dict[int, dict]:
    """Step → estimate; the checkpoints are sampled side by side."""
    rows = {}
    for step, trace in traces(run, params, restriction).items():
        e = estimate(trace, chance_loss=chance_loss(run))
        rows[step] = {"llc": e.llc, "se": e.se, "ci95": e.ci95, "rhat": e.rhat}
        rows[step] |= {"loss": float(trace.init_loss.mean()), "flags": list(e.flags)}
    return rows


def wanted(run: str) -> dict[str, tuple[int, ...]]:
    """Restriction → steps."""
    steps = (REFERENCE, PEAK, END) if run == RUNS[0] else (END,)
    return {"full": STEPS, **dict.fromkeys(HEADS, steps)}


def measure(folder: Path, path: Path, results: dict) -> None:
    """Fills in what is missing in {"rows", "scales"}, and saves after each group."""
    runs = {name: open_run(folder / name) for name in RUNS}
    reference = load_checkpoint(runs[RUNS[0]], REFERENCE)
    for name, run in runs.items():
        weights = {step: load_checkpoint(run, step) for step in STEPS}
        results["scales"][name] = {
            label: [rms(p, block[0]) for p in weights.values()] for label, block in BLOCKS.items()
        }
        for restriction, kind in ((r, k) for r in wanted(name) for k in KINDS):
            key = f"{kind} {name} {{}} {restriction}"
            missing = [s for s in wanted(name)[restriction] if key.format(s) not in results["rows"]]
            for group in (missing[i : i + AT_ONCE] for i in range(0, len(missing), AT_ONCE)):
                params = {s: weights[s] for s in group}
                if kind == "rescaled":
                    params = {s: at_scales_of(p, reference) for s, p in params.items()}
                rows = measured(with_sampler(run, **KINDS[kind]), params, restriction)
                results["rows"] |= {key.format(s): row for s, row in rows.items()}
                save(path, results)


def shares(
    rows: Rows, restriction: str, steps: tuple[int, int, int] = (REFERENCE, PEAK, END)
) -> dict[str, tuple[float, float]]:
    """The share of scale in each feature of the absolute curve, with its standard error."""
    (first, last), (start, peak, end) = RUNS, steps
    names = {
        "start": f"absolute {first} {start}",
        "peak": f"absolute {first} {peak}",
        "end": f"absolute {first} {end}",
        "other": f"absolute {last} {end}",
        "peak at start's": f"rescaled {first} {peak}",
        "end at start's": f"rescaled {first} {end}",
        "other at start's": f"rescaled {last} {end}",
    }
    v = {label: rows[f"{name} {restriction}"] for label, name in names.items()}
    return {
        f"rise {start} → {peak}": with_error(
            lambda x: (x["peak"] - x["peak at start's"]) / (x["peak"] - x["start"]), v
        ),
        f"height at {peak}": with_error(lambda x: 1 - x["peak at start's"] / x["peak"], v),
        f"decay less no decay at {end}": with_error(
            lambda x: 1 - (x["end at start's"] - x["other at start's"]) / (x["end"] - x["other"]), v
        ),
    }


def with_error(f: Callable[[dict[str, float]], float], rows: Rows) -> tuple[float, float]:
    """The value of f and its standard error to first order, for independent estimates."""
    value = {name: row["llc"] for name, row in rows.items()}
    shifted = [f(value | {name: value[name] + row["se"]}) for name, row in rows.items()]
    return f(value), float(np.linalg.norm(np.array(shifted) - f(value)))


@style.look()
def figure(results: dict) -> Figure:
    fig = Figure(figsize=(style.WIDTH, 4.6), layout="constrained")
    axes = fig.subplots(2, 2, sharex=True, sharey="row", height_ratios=(1.35, 1))
    for (top, bottom), run in zip(axes.T, RUNS, strict=True):
        for kind in KINDS:
            curve(top, [results["rows"][f"{kind} {run} {s} full"] for s in STEPS], kind)
        for label, (_, colour, line) in BLOCKS.items():
            values = results["scales"][run][label]
            bottom.plot(STEPS, values, ls=line, color=colour, lw=1.3, label=label)
        top.set_title("with weight decay (baseline)" if run == RUNS[0] else "without weight decay")
        bottom.set(xlabel="training step", yscale="log")
        over_steps(bottom, "log", STEPS[0], STEPS[-1])
        label_axis(bottom.yaxis, "log", *bottom.get_ylim())
    axes[0, 0].set_ylim(bottom=0)
    axes[0, 0].set_ylabel("LLC")
    axes[1, 0].set_ylabel("scale of the block (RMS)")
    all_flags = [
        results["rows"][f"{k} {r} {s} full"]["flags"] for k in KINDS for r in RUNS for s in STEPS
    ]
    handles, labels = axes[0, 1].get_legend_handles_labels()
    for flag in dict.fromkeys(flag for flags in all_flags for flag in flags):
        handles, labels = [*handles, flag_handle(flag)], [*labels, flag_title(flag)]
    axes[0, 1].legend(handles, labels, loc="upper right")
    axes[1, 1].legend(loc="lower left", ncols=2)
    fig.align_ylabels(list(axes[:, 0]))
    return fig


def curve(ax: Axes, rows: list[dict], kind: str) -> None:
    """LLC over the steps, its 95 % interval as a band, and a mark for each flag."""
    colour, marker, label = CURVES[kind]
    value = np.array([r["llc"] for r in rows])
    ax.plot(STEPS, value, marker=marker, ms=3, mew=0, lw=1.2, color=colour, label=label)
    low, high = np.array([r["ci95"] for r in rows]).T
    ax.fill_between(STEPS, low, high, color=colour, alpha=0.25, lw=0)
    for step, row in zip(STEPS, rows, strict=True):
        for flag in row["flags"]:
            ax.plot(step, row["llc"], zorder=4, **style.flag_look(flag))


def report(results: dict) -> None:
    rows = results["rows"]
    for key, row in rows.items():
        summary = f"{row['llc']:8.1f} ± {row['se']:5.1f}  R-hat {row['rhat']:.2f}"
        print(f"{key:32} {summary}  {', '.join(row['flags'])}")
    off = {
        key: abs(row["loss"] - rows[key.replace("rescaled", "absolute")]["loss"])
        for key, row in rows.items()
        if key.startswith("rescaled")
    }
    worst = max(off, key=off.__getitem__)
    print(f"rescaling changes the loss by at most {off[worst]:.1e} nats ({worst})")
    for restriction, values in results["shares"].items():
        for name, (value, se) in values.items():
            print(f"share of scale, {restriction:4} {name:28} {value:6.1%} ± {se:.1%}")


def save(path: Path, results: dict) -> None:
    write_atomic(path, (json.dumps(results, indent=1) + "\n").encode())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("runs", type=Path)
    results, figures = Path("analysis/results/scale_share.json"), Path("docs/figures")
    text = "file for the estimates; those that it already has are not measured again"
    parser.add_argument("--json", type=Path, default=results, help=text)
    parser.add_argument("--figure", type=Path, default=figures / "scale-share.png")
    arguments = parser.parse_args()
    stored_results = {"rows": {}, "scales": {}, "shares": {}}
    if arguments.json.exists():
        stored_results = json.loads(arguments.json.read_text())
    measure(arguments.runs, arguments.json, stored_results)
    stored_results["shares"] = {r: shares(stored_results["rows"], r) for r in ("full", *HEADS)}
    save(arguments.json, stored_results)
    report(stored_results)
    path = arguments.figure
    style.save_figure(figure(stored_results), path.parent, path.stem, (path.suffix[1:],))


if __name__ == "__main__":
    main()
