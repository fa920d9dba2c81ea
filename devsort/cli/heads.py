"""`devsort heads`: what each head does, in a run, a weight file or a GPT-2."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from devsort.cli.app import ForceOpt, JsonOpt, SetOpt, app, emit
from devsort.errors import UserError


class Norm(StrEnum):
    """Where the gains and biases of the layer norms are."""

    auto = "auto"
    file = "file"
    folded = "folded"
    none = "none"


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
        typer.Option(
            help="layer norms of --weights: in the file, folded into the weights, or none"
        ),
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
        emit(report.run(run, tuple(set_), force), as_json, report.run_table)
    elif weights is not None:
        value = report.weights(weights, list_length, numbers, norm.value, tuple(set_))
        emit(value, as_json, report.checkpoint_table)
    elif hf is not None:
        emit(report.gpt2(hf), as_json, report.gpt2_table)
