"""The commands that draw: figures of a run, runs side by side, the explorer's page."""

from pathlib import Path
from typing import Annotated

import typer

from devsort.cli.app import (
    FormatOpt,
    JsonOpt,
    RunArg,
    SetOpt,
    WidthOfFigures,
    WidthOpt,
    app,
    emit,
    written,
)


@app.command()
def chart(
    run: RunArg,
    kinds: FormatOpt = "png,svg",
    width: WidthOpt = WidthOfFigures.double,
    as_json: JsonOpt = False,
    set_: SetOpt = [],  # noqa: B006  typer reads it, nobody changes it
) -> None:
    """Draw all figures of a run. Example: devsort chart runs/baseline --format pdf"""
    from devsort.charts.style import WIDTHS, kinds_of
    from devsort.sorting.charts import draw_all
    from devsort.sorting.run import open_run

    opened, named = open_run(run, tuple(set_)), kinds_of(kinds)
    files = [str(path) for path in draw_all(opened, named, WIDTHS[width.value])]
    emit({"run": str(run), "files": files}, as_json, lambda value: "\n".join(value["files"]))


@app.command()
def compare(
    runs: Annotated[
        list[Path], typer.Argument(metavar="RUN RUN...", help="two or more run folders")
    ],
    out: Annotated[
        Path, typer.Option(metavar="FOLDER", help="where the table and the chart go")
    ] = Path("comparison"),
    kinds: FormatOpt = "png,svg",
    width: WidthOpt = WidthOfFigures.double,
    as_json: JsonOpt = False,
    set_: SetOpt = [],  # noqa: B006  typer reads it, nobody changes it
) -> None:
    """Put the stages of runs side by side. Example: devsort compare runs/baseline runs/no-decay"""
    from devsort.charts.style import WIDTHS, kinds_of
    from devsort.sorting.charts.story import draw_comparison
    from devsort.sorting.compare import compare_runs
    from devsort.sorting.run import open_run
    from devsort.stages.compare import markdown
    from devsort.storage.files import write_atomic
    from devsort.storage.objects import refuse_foreign, write_json

    opened, named = [open_run(run, tuple(set_)) for run in runs], kinds_of(kinds)
    value = compare_runs(opened)
    refuse_foreign(out, "compare.json")
    write_json(out / "compare.json", value)
    write_atomic(out / "compare.md", markdown(value).encode())
    drawn = draw_comparison(opened, out, named, WIDTHS[width.value])
    paths = [out / "compare.json", out / "compare.md", *drawn]
    value = {**value, "files": [str(p) for p in paths]}
    emit(value, as_json, lambda value: markdown(value) + written(value))


@app.command()
def explore(
    runs: Annotated[
        list[Path], typer.Argument(metavar="RUN...", help="run folders that have their stages")
    ],
    out: Annotated[
        Path, typer.Option(metavar="FILE", help="the page; it needs no other file and no network")
    ] = Path("explorer.html"),
    as_json: JsonOpt = False,
) -> None:
    """Make one HTML file to watch runs develop, with their networks running in it.

    Example: devsort explore runs/baseline runs/no-decay
    """
    from devsort.sorting.explorer import explore_runs, table
    from devsort.sorting.run import open_run

    emit(explore_runs([open_run(run) for run in runs], out), as_json, table)
