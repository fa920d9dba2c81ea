"""A run in the form that the page reads: curves, traces, heads by number, and its networks."""

from typing import TYPE_CHECKING, Any

from devsort import __version__
from devsort.charts.style import head_colour
from devsort.explorer.packing import BYTE, HALF, numbers, packed
from devsort.explorer.panels import (
    curve,
    llc_curve,
    llc_traces,
    loss_panel,
    panel,
    response,
    scores_panel,
)
from devsort.sorting.artifacts import HEADS, LLC, STAGES, SUSCEPTIBILITY
from devsort.sorting.charts.susceptibility import LABELS
from devsort.sorting.checkpoints import read_log, sampled_steps
from devsort.sorting.explorer.networks import pack_networks
from devsort.sorting.run import Run

if TYPE_CHECKING:
    import xarray as xr

Object = dict[str, Any]


def pack_run(run: Run, name: str) -> Object:
    """Everything that the page shows of a run.

    Raises:
        UserError: An artifact is missing or stale, or half precision cannot hold the weights.
    """
    llc, heads, stages = run.read(LLC).load(), run.read(HEADS).load(), run.read(STAGES)
    steps = sampled_steps(run)
    task = run.config.task
    return {
        "name": name,
        "frames": steps,
        "stages": {key: stages[key] for key in ("boundaries", "stages", "events")},
        "panels": [*_panels(run, llc), *_head_panels(llc, heads)],
        "traces": {**llc_traces(llc), "restrictions": [_label(r) for r in _restrictions(llc)]},
        "responses": responses(run),
        "about": _about(run),
        "sorter": {
            "list_length": task.list_length,
            "numbers": task.numbers,
            "heads": _by_number(heads),
            **pack_networks(run, steps),
        },
    }


def responses(run: Run) -> list[Object] | None:
    """χ of each component by number, position and gap; None before `devsort susceptibility`."""
    if not run.is_current(SUSCEPTIBILITY):
        return None
    dataset = run.read(SUSCEPTIBILITY)
    return [
        response(
            f"χ by {label}",
            dataset[f"chi_{axis}"].transpose("checkpoint", "component", axis),
            "nats²",
        )
        for axis, label in LABELS.items()
    ]


def _panels(run: Run, llc: "xr.Dataset") -> list[Object]:
    log = read_log(run)
    step, loss = ([line[key] for line in log] for key in ("step", "val_loss"))
    groups = [r for r in _restrictions(llc) if not _is_head(r)]
    curves = [llc_curve(llc, r, _label(r)) for r in groups]
    return [loss_panel(step, loss), panel("LLC", "", curves)]


def _head_panels(llc: "xr.Dataset", heads: "xr.Dataset") -> list[Object]:
    single = [r for r in _restrictions(llc) if _is_head(r)]
    curves = [llc_curve(llc, r, _label(r), head_colour(int(r[1:]))) for r in single]
    scores = {
        str(name): (
            heads.scores.sel(score=name).values,
            heads.score_ci95.sel(score=name).transpose("checkpoint", "bound").values,
        )
        for name in heads.score.values
    }
    step = heads.checkpoint.values
    accuracy = panel("accuracy", "", [curve("accuracy", step, heads.accuracy.values)])
    panels = [panel("head LLC", "", curves)] if curves else []
    return [*panels, scores_panel(step, scores), accuracy]


def _by_number(heads: "xr.Dataset") -> Object:
    """Measures (checkpoint, head, number), see docs/head-modes.md."""
    axes = ("checkpoint", "head", "number")
    measures = {
        name: packed(heads[name].transpose(*axes).values, HALF)
        for name in ("loss_increase", "copy_effect")
    }
    masks = {
        name: packed(heads[name].transpose(*axes).values.astype(bool), BYTE)
        for name in ("copies", "suppresses", "needed")
    }
    return {"step": numbers(heads.checkpoint.values), **measures, **masks}


def _about(run: Run) -> Object:
    """The config and the identities of everything that the page is made from."""
    checksums = {artifact.name: run.checksum(artifact) for artifact in (LLC, HEADS, STAGES)}
    config = run.config.model_dump(mode="json")
    return {"run": str(run.path), "devsort": __version__, "checksums": checksums, "config": config}


def _restrictions(llc: "xr.Dataset") -> list[str]:
    return [str(r) for r in llc.restriction.values]


def _label(restriction: str) -> str:
    if restriction == "full":
        return "whole model"
    return f"head {restriction[1:]}" if _is_head(restriction) else restriction


def _is_head(restriction: str) -> bool:
    return restriction[0] == "h" and restriction[1:].isdigit()
