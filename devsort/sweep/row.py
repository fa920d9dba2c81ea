"""The results of a run: one row of the table, and its trajectory."""

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from devsort.llc.table import geometry_of
from devsort.sorting.artifacts import HEADS, LLC, STAGES
from devsort.sorting.checkpoints import read_log
from devsort.sorting.heads.events import EVENTS
from devsort.sorting.run import Run
from devsort.stages.summary import FIGURES, summary

if TYPE_CHECKING:
    import xarray as xr

SCORES = {
    "split_score": "vocabulary_splitting",
    "suppression_score": "copy_suppression",
    "overlap_score": "overlap",
}


COLUMNS = {
    "peak_llc": "llc_peak",
    "peak_llc_se": "llc_peak_se",
    "peak_step": "llc_peak_step",
    "final_llc": "llc_final",
    "final_llc_se": "llc_final_se",
    "fall": "llc_fall",
    "fall_se": "llc_fall_se",
    "flagged": "llc_flagged",
}  # figure of `devsort.stages.summary` → column


def results(run: Run, steps: Sequence[str]) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The row of a run and its trajectory; an unknown number is None.

    Args:
        run: A run whose steps are done.
        steps: The steps whose results go into the row.

    Returns:
        The row: steps, loss (nats), accuracy; with `llc` the peak, final value and fall of the LLC
        with standard errors and flags, and the share of flagged estimates; with `heads` scores,
        labels and regions at the last checkpoint; with `stages` the stages, boundaries and events
        (steps) and the window in which they lie; lists are joined by semicolons. The trajectory:
        step and loss, with `llc` also llc, se and flagged, and with `heads` accuracy, scores and
        labels, at each sampled checkpoint; without `llc`, at each checkpoint of heads.zarr.
    """
    llc = run.read(LLC) if "llc" in steps else None
    heads = run.read(HEADS) if "heads" in steps else None
    row = _trained(run)
    row |= _llc(llc) if llc is not None else {}
    row |= _heads(heads) if heads is not None else {}
    row |= _stages(run) if "stages" in steps else {}
    points = _sampled(llc) if llc is not None else _saved(run, heads) if heads is not None else []
    return row, points if heads is None else [
        p | _modes(heads.sel(checkpoint=p["step"])) for p in points
    ]


def _saved(run: Run, heads: "xr.Dataset") -> list[dict[str, Any]]:
    loss = {line["step"]: line["val_loss"] for line in read_log(run)}
    return [{"step": step, "loss": number(loss[step])} for step in heads.checkpoint.values.tolist()]


def _sampled(llc: "xr.Dataset") -> list[dict[str, Any]]:
    first = llc.isel(restriction=0)
    columns = (llc.checkpoint, first.llc, first.se, first.flags.any("flag"), llc.checkpoint_loss)
    return [
        {
            "step": int(step),
            "llc": number(value),
            "se": number(se),
            "flagged": bool(flagged),
            "loss": number(loss),
        }
        for step, value, se, flagged, loss in zip(*(c.values for c in columns), strict=True)
    ]


def number(value: Any) -> float | None:
    """A float, or None if it is not finite."""
    return float(value) if np.isfinite(value) else None


def _trained(run: Run) -> dict[str, Any]:
    last = read_log(run)[-1]
    return {"steps": last["step"], "loss": last["val_loss"], "accuracy": last["val_accuracy"]}


def _llc(table: "xr.Dataset") -> dict[str, Any]:
    """Peak, final value and fall of the first restriction; final values of all."""
    figures = summary(table)
    columns = {COLUMNS[key]: value for key, value in figures.items() if key in COLUMNS}
    columns |= {COLUMNS[key] + "_flags": joined(figures[f"{key}_flags"] or ()) for key in FIGURES}
    columns["llc_geometry"] = geometry_of(table)
    for name in table.restriction.values[1:]:
        last, column = table.isel(checkpoint=-1).sel(restriction=name), f"llc_final_{name}"
        flags = joined(last.flag.values[last.flags.values.astype(bool)])
        values = {column: number(last.llc), f"{column}_se": number(last.se)}
        columns |= values | {f"{column}_flags": flags}
    return columns


def _heads(heads: "xr.Dataset") -> dict[str, Any]:
    last = heads.isel(checkpoint=-1)
    owners = joined(last.owner.values)
    return {**_modes(last), "regions": int(last.regions), "owners": owners}


def _modes(one: "xr.Dataset") -> dict[str, Any]:
    """Scores, labels and accuracy at one checkpoint."""
    labels = one.label.values[one.labels.values.astype(bool)]
    scores = {column: number(one.scores.sel(score=name)) for column, name in SCORES.items()}
    maxima = {name: number(one[name].max()) for name in ("lowered_share", "residual_rank")}
    return {**scores, **maxima, "labels": joined(labels), "heads_accuracy": number(one.accuracy)}


def _stages(run: Run) -> dict[str, Any]:
    report = run.read(STAGES)
    stages: list[Mapping[str, Any]] = report["stages"]
    first = {e["event"]: e["step"] for e in reversed(report["events"])}
    return {
        "stages": len(stages),
        "stage_names": joined(s["name"] for s in stages),
        "stage_llc": joined(s["llc"] for s in stages),
        "boundaries": joined(f"{b['step']:g}" for b in report["boundaries"]),
        "window_from": stages[0]["from"],
        "window_to": stages[-1]["to"],
        **{name: first.get(name) for name in EVENTS},
    }


def joined(parts: Iterable[Any]) -> str:
    """A list as one field of a table."""
    return ";".join(map(str, parts))
