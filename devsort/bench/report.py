"""The `devsort bench` command: runs the contenders, and gives a row for each work and peer."""

import platform
from typing import Any

import numpy as np
import torch

from devsort.bench import floor
from devsort.bench.timing import Timed, Work
from devsort.bench.works import Settings, installed, works
from devsort.errors import UserError
from devsort.execution import cores, progress, resolve_device, torch_threads
from devsort.sorting.kernels.compiled import load


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
        measured = works(settings)
        repeats, peak = _measure(measured, settings.repeats, device)
    rows = [
        _row(work, name, own, peak)
        for work, own in zip(measured, repeats, strict=True)
        for name in work.peers
    ]
    notes = {
        "transformer-lens is not installed, so its rows are left out": installed(
            "transformer-lens"
        ),
        "the sorter's kernels are not compiled, so its rows are slower (see make setup)": load(),
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
