"""Commands that measure which data a network responds to, and choose data by it."""

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


@app.command()
def susceptibility(
    run: RunArg,
    force: ForceOpt = False,
    kinds: FormatOpt = "png,svg",
    width: WidthOpt = WidthOfFigures.double,
    as_json: JsonOpt = False,
    set_: SetOpt = [],  # noqa: B006  typer reads it, nobody changes it
) -> None:
    """Estimate how each head's loss responds to more of each number, gap and position in the data.

    Example: devsort susceptibility runs/baseline
    """
    from devsort.charts.style import WIDTHS, kinds_of
    from devsort.sorting.run import open_run
    from devsort.sorting.susceptibility.step import run_susceptibility
    from devsort.sorting.susceptibility.tables import text

    opened, named = open_run(run, tuple(set_)), kinds_of(kinds)
    emit(run_susceptibility(opened, force, named, WIDTHS[width.value]), as_json, text)


@app.command()
def pattern(  # noqa: PLR0913  an argument is an option
    run: RunArg,
    target: Annotated[
        str, typer.Option(metavar="NAME=up|down", help="low, split or suppression, up or down")
    ],
    start: Annotated[
        int | None,
        typer.Option("--from", metavar="STEP", help="saved step whose response is measured"),
    ] = None,
    begin: Annotated[
        int | None,
        typer.Option(min=0, metavar="STEP", help="train from here, 0: the start; else from --from"),
    ] = None,
    steps: Annotated[int, typer.Option(min=1, max=10**6, help="steps of training")] = 300,
    seeds: Annotated[int, typer.Option(min=1, max=1000, help="seeds of lists")] = 8,
    size: Annotated[
        float, typer.Option(min=0.01, max=2, help="standard deviation of the weights of lists")
    ] = 0.5,
    bound: Annotated[float, typer.Option(min=1.1, max=100, help="largest weight of a list")] = 3.0,
    as_json: JsonOpt = False,
    set_: SetOpt = [],  # noqa: B006  typer reads it, nobody changes it
) -> None:
    """Shift the data so that a structure forms, and retrain with and without the shift.

    Example: devsort pattern runs/smoke --target low=up --steps 200
    """
    from devsort.sorting.patterning.step import Pattern, run_pattern, text
    from devsort.sorting.run import open_run

    wanted = Pattern(target, start, begin, steps, seeds, size, bound)
    emit(run_pattern(open_run(run, tuple(set_)), wanted), as_json, text)
