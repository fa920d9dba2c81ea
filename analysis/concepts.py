"""The figures for the concept pages: what an LLC counts, lanes, flags, a susceptibility.

python analysis/concepts.py runs/baseline runs/no-decay --out docs/figures
"""

import argparse
from fractions import Fraction
from pathlib import Path

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

import devsort
from devsort.charts import style
from devsort.charts.curves import flag_title
from devsort.charts.traces import RISE, times
from devsort.llc import FLAGS, estimate
from devsort.rng import stream
from devsort.sorting.run import Run, open_run
from devsort.sorting.samplers import SortSampler

LOSSES = {  # title → loss of two weights, and its learning coefficient
    "bowl: $w_1^2 + w_2^2$": (lambda a, b: a**2 + b**2, "1"),
    "valley: $w_1^2$": (lambda a, b: a**2 + 0 * b, "1/2"),
    "crossing: $w_1^2 w_2^2$": (lambda a, b: (a * b) ** 2, "1/2"),
    "flat crossing: $w_1^4 w_2^4$": (lambda a, b: (a * b) ** 4, "1/4"),
}
N_BETA = np.geomspace(10, 1e5, 60)
SIDE = np.linspace(-1, 1, 1001)

# Curvatures of the losses of two parts of the data, in equal shares, along sixteen weights.
PARTS = {"A": np.tile([3.0, 2.0, 0.4, 0.2], 4), "B": np.tile([0.2, 0.4, 0.8, 0.3], 4)}
MEAN = (PARTS["A"] + PARTS["B"]) / 2
INVERSE_TEMPERATURE, LOCALIZATION = 100.0, 1.0


@style.look()
def learning_coefficients() -> Figure:
    """Where four losses are low, and nβ times the mean loss there as nβ grows."""
    fig = Figure(figsize=(style.WIDTH, 3.6), layout="constrained")
    axes = fig.subplot_mosaic("abcd;eeee", height_ratios=[1, 1.15])
    a, b = np.meshgrid(SIDE, SIDE)
    for i, (ax, (title, (loss, limit))) in enumerate(
        zip([axes[k] for k in "abcd"], LOSSES.items(), strict=True)
    ):
        value = loss(a, b)
        density = np.exp(-100 * value)
        ax.imshow(density, extent=(-1, 1, -1, 1), cmap="Greys", vmin=0, vmax=1.3, origin="lower")
        ax.set(title=title, xticks=[], yticks=[], xlabel="$w_1$", ylabel="$w_2$")
        mean = [float(n * np.average(value, weights=np.exp(-n * value))) for n in N_BETA]
        label = f"{title.split(':')[0]}, λ = {limit}"
        axes["e"].plot(N_BETA, mean, color=style.HEADS[i], label=label)
        axes["e"].axhline(float(Fraction(limit)), color=style.HEADS[i], lw=0.6, ls=":")
    axes["e"].set(xscale="log", ylim=(0, 1.1), xlabel="nβ", ylabel="nβ · mean loss")
    axes["e"].legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
    return fig


@style.look()
def lanes(trajectory: xr.Dataset, steps: tuple[int, int]) -> Figure:
    """The twelve lanes of each of two checkpoints."""
    names = [str(n) for n in trajectory.restriction.values]
    fig = Figure(figsize=(style.WIDTH, 3.4), layout="constrained")
    axes = fig.subplots(len(steps), len(names), sharex=True, sharey="row")
    for row, step in zip(axes, steps, strict=True):
        for ax, name in zip(row, names, strict=True):
            chains(ax, trajectory.sel(checkpoint=step, restriction=name))
            ax.set_title(f"step {step}, {style.label_of(name)}")
        row[0].set_ylabel(RISE)
    fig.supxlabel("step of the chain", fontsize=8)
    return fig


@style.look()
def flags(cells: list[xr.Dataset]) -> Figure:
    """The chains of an estimate without a flag, and of flagged ones."""
    fig = Figure(figsize=(style.WIDTH, 2.3), layout="constrained")
    for ax, cell in zip(fig.subplots(1, len(cells)), cells, strict=True):
        step = int(cell.checkpoint)
        raised = [flag_title(str(f)) for f in cell.flag.values[cell["flags"].values.astype(bool)]]
        chains(ax, cell)
        value = f"λ̂ = {style.with_error(float(cell.llc), float(cell.se))}"
        ax.set_title(f"step {step}: {', '.join(raised) or 'no flag'}\n{value}")
        ax.set_xlabel("step of the chain")
    fig.axes[0].set_ylabel(RISE)
    return fig


@style.look()
def susceptibility(draws: int = 400) -> Figure:
    """A component's loss beside that of each part at its draws, and as the data shift."""
    fig = Figure(figsize=(style.WIDTH, 2.5), layout="constrained")
    axes = fig.subplots(1, 3, width_ratios=[1, 1, 1.2])
    variance = 1 / (INVERSE_TEMPERATURE * MEAN + LOCALIZATION)
    normal = stream(0, "concept").standard_normal((draws, len(MEAN)))
    square = variance * normal**2 / 2
    shift = np.linspace(-0.4, 0.4, 81)
    for i, (ax, (part, curvature)) in enumerate(zip(axes[:2], PARTS.items(), strict=True)):
        chi = -np.sum(MEAN * (curvature - MEAN) * variance**2) / 2
        x, y = square @ MEAN, square @ (curvature - MEAN)
        ax.scatter(x, y, s=3, lw=0, color=style.HEADS[i])
        ax.axline((x.mean(), y.mean()), slope=np.cov(x, y)[0, 1] / x.var(), color=style.INK, lw=0.8)
        ax.set_title(f"part {part}: χ {'<' if chi < 0 else '>'} 0")
        ax.set_xlabel("rise of the loss L (nats)")
        loss = [mean_loss(curvature, h) for h in shift]
        axes[2].plot(shift, loss, color=style.HEADS[i], label=f"more of {part}")
        tangent = mean_loss(curvature, 0) + INVERSE_TEMPERATURE * chi * shift
        axes[2].plot(shift, tangent, color=style.HEADS[i], lw=0.8, ls=":")
    axes[0].set_ylabel("loss of the part, less L (nats)")
    axes[2].set(title="dotted: slope nβ χ", xlabel="shift h of the data")
    axes[2].set_ylabel("mean rise of L (nats)")
    axes[2].legend(loc="upper center")
    return fig


def mean_loss(curvature: np.ndarray, shift: float) -> float:
    """⟨L⟩ under the posterior of the data shifted towards a part by `shift`."""
    shifted = MEAN + shift * (curvature - MEAN)
    return float(np.sum(MEAN / (INVERSE_TEMPERATURE * shifted + LOCALIZATION)) / 2)


def chains(ax: Axes, cell: xr.Dataset) -> None:
    """L(w) − L(w*) of each chain, a running mean of ten draws; burn-in is shaded."""
    burnin = (cell.burnin_loss - cell.burnin_init_loss).values
    rise = np.concatenate([burnin, (cell.loss - cell.init_loss).values], axis=1)  # (C, steps)
    ax.axvspan(0, burnin.shape[1], color="0.92", lw=0)
    ax.axhline(0, color="0.6", lw=0.6)
    colour = style.colour_of(str(cell.restriction.values))
    for chain in rise:
        smooth = np.convolve(chain, np.full(10, 0.1), mode="valid")
        ax.plot(times(cell)[9:], smooth, color=colour, lw=0.8, alpha=0.7)
    ax.margins(x=0)


def sampled(run: Run, step: int) -> xr.Dataset:
    """A checkpoint that the trajectory leaves out, sampled as it would be."""
    sampler = SortSampler(run)
    trace = sampler.sample(sampler.load([step]), "full", lambda count: None)[step]
    found = estimate(trace)
    data = {name: (("chain", "draw"), getattr(trace, name)) for name in ("loss", "init_loss")}
    early = ("burnin_loss", "burnin_init_loss")
    data |= {name: (("chain", "burnin"), getattr(trace, name)) for name in early}
    data["flags"] = ("flag", [name in found.flags for name in FLAGS])
    at = {"flag": list(FLAGS), "checkpoint": step, "restriction": "full"}
    numbers = {"llc": found.llc, "se": found.se, "steps_bw_draws": trace.config.num_steps_bw_draws}
    return xr.Dataset(data | numbers, at)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("decay", type=Path, help="the run with weight decay")
    parser.add_argument("no_decay", type=Path, help="the run without")
    parser.add_argument("--out", type=Path, default=Path("docs/figures"))
    args = parser.parse_args()
    decay, no_decay = map(devsort.load_trajectory, (args.decay, args.no_decay))
    figures = {
        "concept-llc": learning_coefficients(),
        "concept-lanes": lanes(decay, (91, 6000)),
        "concept-flags": flags(
            [
                sampled(open_run(args.decay), 10),
                no_decay.sel(checkpoint=42, restriction="full"),
                decay.sel(checkpoint=91, restriction="full"),
            ]
        ),
        "concept-susceptibility": susceptibility(),
    }
    for name, figure in figures.items():
        print(style.save_figure(figure, args.out, name)[0])


if __name__ == "__main__":
    main()
