"""Commands that need no existing run: init, sweep, trajectory, validate, bench."""

import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from devsort.cli.app import ForceOpt, JsonOpt, SetOpt, app, emit


class Device(StrEnum):
    """Where the bench runs."""

    cpu = "cpu"
    cuda = "cuda"


@app.command()
def init(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="the new folder")],
    like: Annotated[
        Path | None,
        typer.Option("--like", metavar="RUN", help="take the settings of this run folder"),
    ] = None,
    set_: SetOpt = [],  # noqa: B006  typer reads it, nobody changes it
    as_json: JsonOpt = False,
) -> None:
    """Make a run folder with a config.yaml: every setting with its range and meaning.

    Example: devsort init runs/mine --set train.steps=3000
    """
    from devsort.sorting.run import init_run

    made = init_run(run, like, tuple(set_))
    value = {"run": str(run), "config": str(made.path / "config.yaml")}
    emit(value, as_json, lambda value: f"{value['config']}: change what you like, then train")


@app.command()
def sweep(
    study: Annotated[
        Path, typer.Argument(metavar="STUDY", help="study file, for example studies/small.yaml")
    ],
    out: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="where the run folders go; runs/NAME by default"),
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(
            min=0, max=1024, help="processes; all cores by default; 0 only gathers the table"
        ),
    ] = None,
    address: Annotated[
        str | None, typer.Option(metavar="HOST:PORT", help="a Ray cluster that runs the cells")
    ] = None,
    cpus: Annotated[int, typer.Option(min=1, max=1024, help="cores for each cell")] = 1,
    gpus: Annotated[
        float, typer.Option(min=0, max=64, help="GPUs for each cell on a Ray cluster, such as 0.25")
    ] = 0.0,
    force: ForceOpt = False,
    as_json: JsonOpt = False,
) -> int:
    """Run every cell of a study, with a table at the end.

    Example: devsort sweep studies/small.yaml
    """
    from devsort.sweep import Engine, failure, run_sweep, text_table

    value = run_sweep(study, out, Engine(workers, address, cpus, gpus), force)
    emit(value, as_json, text_table)
    if message := failure(value):
        print(f"devsort: error: {message}", file=sys.stderr)
    return 1 if value["defects"] else 2 if value["failed"] else 0


@app.command()
def trajectory(
    spec: Annotated[
        Path, typer.Argument(metavar="SPEC.py", help="Python file that names loss and checkpoints")
    ],
    force: ForceOpt = False,
    as_json: JsonOpt = False,
) -> None:
    """Estimate the LLC of a network of your own over training, with stages and chart.

    Example: devsort trajectory examples/spec/spec.py
    """
    from devsort.networks.spec import run_spec, table

    emit(run_spec(spec, force), as_json, table)


@app.command()
def validate(
    case: Annotated[
        list[str], typer.Option("--case", metavar="NAME", help="only this case, repeatable")
    ] = [],  # noqa: B006
    fast: Annotated[bool, typer.Option("--fast", help="only the cases that take seconds")] = False,
    trained: Annotated[
        bool,
        typer.Option("--trained", help="trained networks with LLCs from slow reference samplers"),
    ] = False,
    as_json: JsonOpt = False,
) -> int:
    """Check the sampler against known answers.

    Exit code 1 if a case fails. Example: devsort validate --fast
    """
    from devsort.validation.validate import run_cases, table

    if trained:
        from devsort.sorting.trained import trained_cases

        value = run_cases(case, fast, trained_cases())
    else:
        value = run_cases(case, fast)
    emit(value, as_json, table)
    return 0 if value["ok"] else 1


@app.command()
def bench(
    batch: Annotated[
        list[int],
        typer.Option("--batch", min=1, max=4096, metavar="N", help="SGLD batch size, repeatable"),
    ] = [32, 64, 128, 512],  # noqa: B006  typer reads it, nobody changes it
    repeats: Annotated[
        int, typer.Option(min=1, max=100, metavar="K", help="how often each contender runs")
    ] = 3,
    device: Annotated[Device, typer.Option(help="device of all contenders")] = Device.cpu,
    out: Annotated[Path, typer.Option(metavar="FOLDER", help="where bench.json goes")] = Path(
        "benchmark"
    ),
    as_json: JsonOpt = False,
) -> int:
    """Measure speed beside devinterp and TransformerLens.

    Exit code 1 if answers differ. Example: devsort bench --batch 128
    """
    from devsort.bench import Settings, run_bench, table
    from devsort.storage.objects import write_json

    value = run_bench(
        Settings(batches=tuple(dict.fromkeys(batch)), repeats=repeats, device=device.value)
    )
    write_json(out / "bench.json", value)
    emit(value, as_json, table)
    return 0 if value["ok"] else 1
