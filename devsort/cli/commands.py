"""The commands on a run, thin over the package.

Heavy imports happen inside the commands that need them.
"""

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from devsort.cli.app import ForceOpt, JsonOpt, SetOpt, app, emit
from devsort.errors import UserError

RunArg = Annotated[
    Path, typer.Argument(metavar="RUN", help="run folder, for example runs/baseline")
]


class AxisOfSteps(StrEnum):
    """How steps are spread over a chart."""

    log = "log"
    linear = "linear"


class Sampler(StrEnum):
    """Whose SGLD runs the chains."""

    devsort = "devsort"
    devinterp = "devinterp"


class Norm(StrEnum):
    """Where the layer norms' gains and biases are."""

    auto = "auto"
    file = "file"
    folded = "folded"
    none = "none"


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
        Sampler, typer.Option(help="ours, or devinterp's as the reference")
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
def calibrate(run: RunArg, as_json: JsonOpt = False, set_: SetOpt = []) -> None:  # noqa: B006
    """Propose sampler settings for a run, with reasons and charts.

    Example: devsort calibrate runs/baseline
    """
    from devsort.charts.calibrate import draw
    from devsort.llc.calibrate import table
    from devsort.sorting.calibrate import calibrate
    from devsort.sorting.run import open_run

    opened = open_run(run, tuple(set_))
    value, traces = calibrate(opened)
    files = [str(path) for path in draw(value, traces, opened.figures)]
    emit({**value, "files": files}, as_json, table)


@app.command()
def chart(run: RunArg, as_json: JsonOpt = False, set_: SetOpt = []) -> None:  # noqa: B006
    """Draw all figures of a run as PNG and SVG. Example: devsort chart runs/baseline"""
    from devsort.sorting.charts import draw_all
    from devsort.sorting.run import open_run

    opened = open_run(run, tuple(set_))
    files = [str(path) for path in draw_all(opened)]
    emit({"run": str(run), "files": files}, as_json, lambda value: "\n".join(value["files"]))


@app.command()
def status(run: RunArg, as_json: JsonOpt = False, set_: SetOpt = []) -> None:  # noqa: B006
    """Say what of a run is done, stale, broken or missing. Example: devsort status runs/baseline"""
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


@app.command()
def stages(
    run: Annotated[
        Path | None, typer.Argument(metavar="RUN", help="run folder, for example runs/baseline")
    ] = None,
    trajectory: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.csv",
            help="a trajectory from anywhere: step, llc, se, optionally loss and flag",
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
        Path, typer.Option(metavar="FOLDER", help="where --trajectory puts its chart and JSON")
    ] = Path("stages"),
    axis: Annotated[
        AxisOfSteps, typer.Option(help="axis of steps in the chart of --trajectory")
    ] = AxisOfSteps.log,
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
        value = _stages_of_csv(trajectory, out, tuple(set_), tuple(columns), axis.value)
    else:
        from devsort.sorting.run import open_run
        from devsort.sorting.stages import run_stages

        value = run_stages(open_run(run, tuple(set_)), force)
    emit(value, as_json, lambda value: table(value) + _written(value))


@app.command()
def heads(  # noqa: PLR0913  an argument is an option
    run: Annotated[
        Path | None, typer.Argument(metavar="RUN", help="run folder, for example runs/baseline")
    ] = None,
    weights: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="state dict of a one-layer HookedTransformer without MLP: n_ctx 2L + 1 or more, "
            "vocabulary N + 1, SEP last; .safetensors or torch.save",
        ),
    ] = None,
    list_length: Annotated[
        int, typer.Option(min=2, max=100, help="L: numbers in a list, for --weights")
    ] = 10,
    numbers: Annotated[
        int, typer.Option(min=2, max=1000, help="N: lists are drawn from 0 to N - 1, SEP is N")
    ] = 51,
    norm: Annotated[
        Norm,
        typer.Option(help="layer norms of --weights: in the file, folded into the weights, none"),
    ] = Norm.auto,
    hf: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="a GPT-2 style model of transformers")
    ] = None,
    force: ForceOpt = False,
    as_json: JsonOpt = False,
    set_: SetOpt = [],  # noqa: B006  typer reads it, nobody changes it
) -> None:
    """Say what each head does, in a run, a weight file or a GPT-2.

    Example: devsort heads runs/baseline
    """
    from devsort.sorting.heads import report

    if sum(source is not None for source in (run, weights, hf)) != 1:
        raise UserError(
            "heads needs exactly one of RUN, --weights FILE and --hf FOLDER", "give one of them"
        )
    if run is not None:
        return emit(report.run(run, tuple(set_), force), as_json, report.run_table)
    if weights is not None:
        return emit(
            report.weights(weights, list_length, numbers, norm.value, tuple(set_)),
            as_json,
            report.checkpoint_table,
        )
    return emit(report.gpt2(hf), as_json, report.gpt2_table)


@app.command()
def compare(
    runs: Annotated[
        list[Path], typer.Argument(metavar="RUN RUN...", help="two or more run folders")
    ],
    out: Annotated[
        Path, typer.Option(metavar="FOLDER", help="where the table and the chart go")
    ] = Path("comparison"),
    as_json: JsonOpt = False,
    set_: SetOpt = [],  # noqa: B006  typer reads it, nobody changes it
) -> None:
    """Put the stages of runs side by side. Example: devsort compare runs/baseline runs/no-decay"""
    from devsort.sorting.charts.story import draw_comparison
    from devsort.sorting.compare import compare_runs
    from devsort.sorting.run import open_run
    from devsort.stages.compare import markdown
    from devsort.storage.files import write_atomic
    from devsort.storage.objects import refuse_foreign, write_json

    opened = [open_run(run, tuple(set_)) for run in runs]
    value = compare_runs(opened)
    refuse_foreign(out, "compare.json")
    write_json(out / "compare.json", value)
    write_atomic(out / "compare.md", markdown(value).encode())
    paths = [out / "compare.json", out / "compare.md", *draw_comparison(opened, out)]
    value = {**value, "files": [str(p) for p in paths]}
    emit(value, as_json, lambda value: markdown(value) + _written(value))


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
    """Make one HTML file to watch runs develop, with their networks alive in it.

    Example: devsort explore runs/baseline runs/no-decay
    """
    from devsort.sorting.explorer import explore_runs, table
    from devsort.sorting.run import open_run

    emit(explore_runs([open_run(run) for run in runs], out), as_json, table)


def _stages_of_csv(
    path: Path, out: Path, overrides: tuple[str, ...], columns: tuple[str, ...], scale: str
) -> dict[str, Any]:
    """Stages of a table from anywhere, with their chart."""
    from devsort.charts.stage_chart import figure, of_trajectory
    from devsort.charts.style import save_figure
    from devsort.sorting.config import default_config
    from devsort.stages import read_csv
    from devsort.stages.report import find_stages
    from devsort.storage.objects import refuse_foreign, write_json

    trajectory = read_csv(path, columns)
    value = {"trajectory": str(path), **find_stages(trajectory, default_config(overrides).stages)}
    refuse_foreign(out, "stages.json")
    write_json(out / "stages.json", value)
    files = save_figure(figure(of_trajectory(trajectory, value, scale)), out, "stages")
    return {**value, "files": [str(p) for p in (out / "stages.json", *files)]}


def _written(value: dict[str, Any]) -> str:
    """The files of a result, for its text."""
    return "".join(f"\nwritten: {path}" for path in value.get("files", []))
