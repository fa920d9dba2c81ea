"""`devsort stages`: the stages of a run, or of a table from anywhere."""

from collections.abc import Callable, Sequence
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from devsort.cli.app import (
    ForceOpt,
    FormatOpt,
    JsonOpt,
    SetOpt,
    WidthOfFigures,
    WidthOpt,
    app,
    emit,
    written,
)
from devsort.errors import UserError


class AxisOfSteps(StrEnum):
    """The scale of the step axis."""

    log = "log"
    linear = "linear"


@app.command()
def stages(  # noqa: PLR0913  an argument is an option
    run: Annotated[
        Path | None, typer.Argument(metavar="RUN", help="run folder, for example runs/baseline")
    ] = None,
    trajectory: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.csv", help="a table of your own: step, llc, se, optionally loss and flag"
        ),
    ] = None,
    columns: Annotated[
        list[str],
        typer.Option(
            metavar="ROLE=NAME",
            help="column of --trajectory for step, llc, se, std, chains, loss or flag; repeatable",
        ),
    ] = [],  # noqa: B006  typer reads it, nobody changes it
    out: Annotated[
        Path, typer.Option(metavar="FOLDER", help="where the chart and JSON of --trajectory go")
    ] = Path("stages"),
    axis: Annotated[
        AxisOfSteps, typer.Option(help="scale of the step axis in the chart of --trajectory")
    ] = AxisOfSteps.log,
    kinds: FormatOpt = "png,svg",
    width: WidthOpt = WidthOfFigures.double,
    set_: SetOpt = [],  # noqa: B006  typer reads it, nobody changes it
    as_json: JsonOpt = False,
    force: ForceOpt = False,
) -> None:
    """Find the stages of a run, or of any trajectory, with intervals.

    Example: devsort stages runs/baseline
    """
    from devsort.stages.report import table

    if (run is None) == (trajectory is None):
        raise UserError("stages needs either RUN or --trajectory FILE.csv", "give one of them")
    if trajectory is not None:
        from devsort.charts.style import kinds_of

        draw = partial(_draw_stages, kinds=kinds_of(kinds), width=width.value, scale=axis.value)
        value = _stages_of_csv(trajectory, out, tuple(set_), tuple(columns), draw)
    elif run is not None:
        from devsort.sorting.run import open_run
        from devsort.sorting.stages import run_stages

        value = run_stages(open_run(run, tuple(set_)), force)
    emit(value, as_json, lambda value: table(value) + written(value))


def _draw_stages(
    trajectory: Any,
    value: dict[str, Any],
    out: Path,
    *,
    kinds: Sequence[str],
    width: str,
    scale: Any,
) -> list[Path]:
    """The stage chart of a trajectory from anywhere."""
    from devsort.charts.stage_chart import figure, of_trajectory
    from devsort.charts.style import WIDTHS, save_figure

    story = of_trajectory(trajectory, value, scale)
    return save_figure(figure(story, WIDTHS[width]), out, "stages", kinds)


def _stages_of_csv(
    path: Path,
    out: Path,
    overrides: tuple[str, ...],
    columns: tuple[str, ...],
    draw: Callable[[Any, dict[str, Any], Path], list[Path]],
) -> dict[str, Any]:
    """Stages of a table from anywhere, with their chart."""
    from devsort.sorting.config import default_config
    from devsort.stages import read_csv
    from devsort.stages.report import find_stages
    from devsort.storage.objects import refuse_foreign, write_json

    trajectory = read_csv(path, columns)
    value = {"trajectory": str(path), **find_stages(trajectory, default_config(overrides).stages)}
    refuse_foreign(out, "stages.json")
    write_json(out / "stages.json", value)
    files = draw(trajectory, value, out)
    return {**value, "files": [str(p) for p in (out / "stages.json", *files)]}
