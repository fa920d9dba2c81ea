"""The `devsort bench` command: runs the contenders, and gives a row for each work and peer."""

import platform
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import torch

from devsort.bench import costs, draws, floor, networks, samplers, trainers
from devsort.bench.timing import Contender, Timed, Work
from devsort.errors import UserError
from devsort.execution import cores, progress, resolve_device, torch_threads
from devsort.sampling import SamplerConfig
from devsort.sorting.config import default_config
from devsort.sorting.kernels.compiled import load
from devsort.sorting.model import Params, Shape, model_shape
from devsort.sorting.run import Run
from devsort.sorting.train import Trainer

LOSS_TOLERANCE = 1e-5  # relative, of every training step's loss
SIGMAS = 4.0  # standard errors within which the chains' mean losses agree
# a GPU's memory divided by what lanes may take; the rest is for the frozen parts of checkpoints and
# for noise
FILL = 6


@dataclass(frozen=True)
class Settings:
    """What is measured.

    Attributes:
        batches: Lists per SGLD step.
        restrictions: What the chains sample.
        repeats: How often each contender runs; contenders alternate.
        chain_steps: Steps of a chain at small batches; fewer at large ones.
        draw_steps: Unit of the lengths of the chains whose effective draws are counted.
        train_steps: Optimiser steps of one repeat.
        warm_steps: Training steps before the checkpoint that is sampled; twice as many for the
            transformer.
        device: cpu, or cuda for all contenders.
        overrides: `key=value` changes of the default config.
    """

    batches: tuple[int, ...] = (32, 64, 128, 512)
    restrictions: tuple[str, ...] = ("full", "h0")
    repeats: int = 3
    chain_steps: int = 60
    draw_steps: int = 60
    train_steps: int = 24
    warm_steps: int = 200
    device: str = "cpu"
    overrides: tuple[str, ...] = ()


def run_bench(settings: Settings) -> dict[str, Any]:
    """Measures everything.

    Raises:
        UserError: A GPU is asked for and there is none.

    Returns:
        rows with what, batch, peer_name, devsort, peer, ratio, floor (all rates in `unit`), spread
        (smallest and largest over the repeats) and agreement; machine; notes on what was left out;
        ok, whether all answers agree.
    """
    if settings.device == "cuda" and not torch.cuda.is_available():
        raise UserError("--device cuda is asked for, but torch sees no GPU", "use --device cpu")
    device = resolve_device(settings.device)
    with torch_threads(cores()):
        works = _works(settings)
        repeats, peak = _measure(works, settings.repeats, device)
    rows = [
        _row(work, name, own, peak)
        for work, own in zip(works, repeats, strict=True)
        for name in work.peers
    ]
    notes = {
        "transformer-lens is not installed, so its rows are left out": _version("transformer-lens"),
        "the sorter's kernels are not compiled: no C compiler was found at installation": load(),
    }
    return {
        "rows": rows,
        "machine": _machine(device, peak),
        "notes": [note for note, unneeded in notes.items() if not unneeded],
        "ok": all(row["agreement"]["ok"] for row in rows),
    }


def table(value: dict[str, Any]) -> str:
    """The result as text."""
    machine = value["machine"]
    head = "what,batch,peer,devsort,peer's,ratio,ratio's spread,floor,of floor,unit,"
    lines = [tuple(head.split(","))] + [_cells(row) for row in value["rows"]]
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    text = [
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    ]
    where = machine["gpu"] or f"{machine['cores']} cores"
    about = f"{where}, float32 matrix peak {machine['peak_gflops']:.0f} GFLOP/s"
    return "\n".join([*text, "", about, *value["notes"]])


def same_losses(mine: list[np.ndarray], theirs: list[np.ndarray]) -> dict[str, Any]:
    """Whether the losses of all training steps are equal up to float32 rounding."""
    off = float(np.max(np.abs(np.stack(mine) / np.stack(theirs) - 1)))
    return {
        "devsort": float(mine[0][-1]),
        "peer": float(theirs[0][-1]),
        "off": off,
        "ok": off <= LOSS_TOLERANCE,
    }


def same_means(mine: list[np.ndarray], theirs: list[np.ndarray]) -> dict[str, Any]:
    """Whether the mean losses minus the checkpoint's agree within the errors between chains.

    Returns:
        Both means and their difference in standard errors, `off`. `ok` is also false if the error
        exceeds a tenth of the mean, because agreement would then mean nothing.
    """
    a, b = np.concatenate(mine).astype(float), np.concatenate(theirs).astype(float)
    error = float(np.hypot(a.std(ddof=1) / np.sqrt(len(a)), b.std(ddof=1) / np.sqrt(len(b))))
    off = float(abs(a.mean() - b.mean()) / error)
    ok = off <= SIGMAS and error <= 0.1 * abs(b.mean())
    return {"devsort": float(a.mean()), "peer": float(b.mean()), "off": off, "ok": bool(ok)}


def _measure(
    works: list[Work], repeats: int, device: torch.device
) -> tuple[list[list[dict[str, Timed]]], float]:
    """For each work the repeats of its contenders by name, ours under ""; and the matrix peak."""
    peak, results = 0.0, []
    with progress(total=len(works) * repeats, desc="bench", unit="repeat") as bar:
        for work in works:
            contenders, own = {"": work.ours, **work.peers}, []
            for repeat in range(repeats):
                peak = max(peak, floor.matrix_peak(device))
                own.append({name: run(repeat) for name, run in contenders.items()})
                bar.update()
            results.append(own)
    return results, peak


def _works(settings: Settings) -> list[Work]:
    base = _run(settings)
    trainer = Trainer(base)
    for _ in range(settings.warm_steps):
        trainer.advance()
    params = {name: value.clone() for name, value in trainer.params().items()}
    sampled = [
        _sampler(settings, batch, name, params)
        for batch in settings.batches
        for name in settings.restrictions
    ]
    return [*sampled, *_costs(settings), *_network(settings), _training(base, settings.train_steps)]


def _costs(settings: Settings) -> list[Work]:
    """LLCs of a stored checkpoint; none for a task or a model of another size, or on a GPU."""
    if settings.overrides or settings.device == "cuda":
        return []

    def work(name: str) -> Work:
        return Work(
            what=f"LLC {name}",
            batch=SamplerConfig().batch_size,
            unit="LLCs to 1 %/CPU min",
            flops=None,
            ours=lambda repeat: costs.ours(name, settings.draw_steps, repeat),
            peers={
                f"devinterp {_version('devinterp')}": lambda repeat: costs.devinterp(
                    name, settings.draw_steps, repeat
                )
            },
            agreement=same_means,
        )

    return [work(name) for name in costs.RESTRICTIONS]


def _network(settings: Settings) -> list[Work]:
    """A user's two-layer transformer: the rates of steps and of effective draws."""
    of = networks.subject(resolve_device(settings.device), 2 * settings.warm_steps)
    own = {"num_draws": settings.chain_steps, "num_burnin_steps": 0, "lr": networks.LR}
    every = [SamplerConfig(geometry="absolute", seed=i, **own) for i in range(settings.repeats)]

    def work(what: str, unit: str, batch: int, ours: Contender, devinterp: Contender) -> Work:
        peers, flops = {f"devinterp {_version('devinterp')}": devinterp}, networks.flops(of, batch)
        return Work(what, batch, unit, flops, ours, peers, same_means)

    return [
        work(
            "sampler transformer",
            "chain-steps/s",
            every[0].batch_size,
            lambda repeat: networks.ours(of, every[repeat], settings.device),
            lambda repeat: networks.devinterp(of, every[repeat], settings.device),
        ),
        work(
            "draws transformer",
            "effective draws/s",
            SamplerConfig().batch_size,
            lambda repeat: draws.ours(of, settings.draw_steps, repeat, settings.device),
            lambda repeat: draws.devinterp(of, settings.draw_steps, repeat, settings.device),
        ),
    ]


def _sampler(settings: Settings, batch: int, name: str, params: Params) -> Work:
    steps = min(settings.chain_steps, max(24, 7680 // batch))

    def run(repeat: int) -> Run:
        return _run(settings, batch_size=batch, num_draws=steps, num_burnin_steps=0, seed=repeat)

    flops = floor.step_flops(_shape(run(0)), batch, one_head=name != "full")
    peers: dict[str, Contender] = {}
    peers[f"devinterp {_version('devinterp')}"] = lambda repeat: samplers.devinterp(
        run(repeat), name, params
    )
    if _version("transformer-lens"):
        peers["devinterp on transformer-lens"] = lambda repeat: samplers.devinterp_on_hooked(
            run(repeat), name, params
        )
    return Work(
        what=f"sampler {name}",
        batch=batch,
        unit="chain-steps/s",
        flops=flops,
        ours=lambda repeat: samplers.ours(run(repeat), name, params),
        peers=peers,
        agreement=same_means,
    )


def _training(run: Run, steps: int) -> Work:
    peers: dict[str, Contender] = {"plain autograd": lambda _: trainers.plain(run, steps)}
    if installed := _version("transformer-lens"):
        peers[f"transformer-lens {installed}"] = lambda _: trainers.hooked(run, steps)
    return Work(
        what="trainer",
        batch=run.config.train.batch_size,
        unit="steps/s",
        flops=floor.step_flops(_shape(run), run.config.train.batch_size),
        ours=lambda _: trainers.ours(run, steps),
        peers=peers,
        agreement=same_losses,
    )


def _row(work: Work, name: str, repeats: list[dict[str, Timed]], peak: float) -> dict[str, Any]:
    """Medians over the repeats.

    The ratio is the median of the ratios within each repeat, which a busy machine changes least.
    """
    mine, theirs = ([repeat[who] for repeat in repeats] for who in ("", name))
    rates = {
        "devsort": np.array([t.rate for t in mine]),
        "peer": np.array([t.rate for t in theirs]),
    }
    rates["ratio"] = rates["devsort"] / rates["peer"]
    medians = {key: float(np.median(value)) for key, value in rates.items()}
    return {
        "what": work.what,
        "batch": work.batch,
        "peer_name": name,
        **medians,
        "floor": peak / work.flops if work.flops else None,
        "unit": work.unit,
        "spread": {key: [float(value.min()), float(value.max())] for key, value in rates.items()},
        "agreement": work.agreement([t.values for t in mine], [t.values for t in theirs]),
    }


def _machine(device: torch.device, peak: float) -> dict[str, Any]:
    card = torch.cuda.get_device_name(device) if device.type == "cuda" else None
    on = {"cores": cores(), "gpu": card, "arch": platform.machine()}
    return {**on, "peak_gflops": peak / 1e9, "torch": torch.__version__}


def _run(settings: Settings, **sampler: int) -> Run:
    """A run that is never written: the defaults, without parts of the data.

    On a GPU it allows as many lanes as fill the memory.
    """
    memory = ()
    if settings.device == "cuda":
        memory = (f"memory={torch.cuda.mem_get_info()[1] // FILL // 2**20}",)
    own = tuple(f"llc.sampler.{key}={value}" for key, value in sampler.items())
    both = ("llc.parts=[]", "llc.sampler.geometry=absolute")  # what devinterp can do as well
    overrides = (f"device={settings.device}", *both, *memory, *settings.overrides, *own)
    return Run(Path("bench"), default_config(overrides))


def _shape(run: Run) -> Shape:
    return model_shape(run.config.task, run.config.model)


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


def _cells(row: dict[str, Any]) -> tuple[str, ...]:
    names = ("devsort", "peer", "ratio", "floor")
    rates = {key: "–" if row[key] is None else f"{row[key]:.1f}" for key in names}
    low, high = row["spread"]["ratio"]
    share = f"{row['devsort'] / row['floor']:.0%}" if row["floor"] else "–"
    verdict = "agrees" if row["agreement"]["ok"] else "DIFFERS"
    return (
        row["what"],
        str(row["batch"]),
        row["peer_name"],
        rates["devsort"],
        rates["peer"],
        rates["ratio"],
        f"{low:.1f}–{high:.1f}",
        rates["floor"],
        share,
        row["unit"],
        verdict,
    )
