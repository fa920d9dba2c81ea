"""Commands on a run: train, llc, calibrate, status, config.

Heavy imports happen inside the commands that need them.
"""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from devsort.cli.app import (
    ForceOpt,
    FormatOpt,
    JsonOpt,
    RunArg,
    SetOpt,
    WidthOfFigures,
    WidthOpt,
    app,
    emit,
)


class Sampler(StrEnum):
    """Whose sampler runs the chains."""

    devsort = "devsort"
    devinterp = "devinterp"


@app.command()
def train(
    run: RunArg,
    force: ForceOpt = False,
    as_json: JsonOpt = False,
    set_: SetOpt = [],  # noqa: B006  typer reads it, nobody changes it
) -> None:
    """Train a run and save dense checkpoints. Example: devsort train runs/baseline"""
    from devsort.sorting.run import open_run
    from devsort.sorting.train import table, train

    emit(train(open_run(run, tuple(set_)), force), as_json, table)


@app.command()
def llc(
    run: RunArg,
    sampler: Annotated[
        Sampler, typer.Option(help="devsort's, or devinterp's as the reference")
    ] = Sampler.devsort,
    force: ForceOpt = False,
    as_json: JsonOpt = False,
    set_: SetOpt = [],  # noqa: B006  typer reads it, nobody changes it
) -> None:
    """Estimate the LLC trajectory, whole model and each head. Example: devsort llc runs/baseline"""
    from devsort.llc.table import text_table
    from devsort.sorting.llc import run_llc
    from devsort.sorting.run import open_run

    emit(run_llc(open_run(run, tuple(set_)), force, sampler.value), as_json, text_table)


@app.command()
def calibrate(
    run: RunArg,
    kinds: FormatOpt = "png,svg",
    width: WidthOpt = WidthOfFigures.double,
    as_json: JsonOpt = False,
    set_: SetOpt = [],  # noqa: B006  typer reads it, nobody changes it
) -> None:
    """Propose sampler settings for a run, with reasons and charts.

    Example: devsort calibrate runs/baseline
    """
    from devsort.charts.calibrate import draw
    from devsort.charts.style import WIDTHS, kinds_of
    from devsort.llc.calibrate import table
    from devsort.sorting.calibrate import calibrate
    from devsort.sorting.run import open_run

    opened, named = open_run(run, tuple(set_)), kinds_of(kinds)
    value, traces = calibrate(opened)
    drawn = draw(value, traces, opened.figures, named, WIDTHS[width.value])
    files = [str(path) for path in drawn]
    emit({**value, "files": files}, as_json, table)


@app.command()
def status(run: RunArg, as_json: JsonOpt = False, set_: SetOpt = []) -> None:  # noqa: B006
    """Say what is done, stale, broken or missing in a run. Example: devsort status runs/baseline"""
    from devsort.sorting import status
    from devsort.sorting.run import open_run

    emit(status.status(open_run(run, tuple(set_))), as_json, status.table)


@app.command()
def config(
    run: Annotated[
        Path | None, typer.Argument(metavar="RUN", help="run folder; without it, the defaults")
    ] = None,
    as_json: JsonOpt = False,
    set_: SetOpt = [],  # noqa: B006  typer reads it, nobody changes it
) -> None:
    """Print every setting as YAML.

    Value, range and meaning. Example: devsort config runs/baseline
    """
    from devsort.sorting.config import default_config
    from devsort.sorting.run import open_run
    from devsort.storage.reference import reference

    resolved = open_run(run, tuple(set_)).config if run else default_config(tuple(set_))
    emit(resolved.model_dump(mode="json"), as_json, lambda _: reference(resolved))
