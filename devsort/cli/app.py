"""The entry point of the command line: exit codes, interruptions, and how results are printed."""

import io
import json
import math
import os
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from devsort import __version__
from devsort.cli.refusals import users_error
from devsort.errors import Interrupted, UserError

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)

# exit code 128 + signal: 130, 143
INTERRUPTIONS: dict[int, str] = {signal.SIGINT: "interrupted", signal.SIGTERM: "terminated"}

JsonOpt = Annotated[
    bool, typer.Option("--json", help="print one JSON object on standard output and nothing else")
]
SetOpt = Annotated[
    list[str], typer.Option("--set", metavar="KEY=VALUE", help="override config.yaml, repeatable")
]
RunArg = Annotated[
    Path, typer.Argument(metavar="RUN", help="run folder, for example runs/baseline")
]


class WidthOfFigures(StrEnum):
    """One column of a paper, or both."""

    single = "single"
    double = "double"


FormatOpt = Annotated[
    str, typer.Option("--format", metavar="KINDS", help="png, svg, pdf, separated by commas")
]
WidthOpt = Annotated[
    WidthOfFigures, typer.Option("--width", help="one column of a paper, 3.4 in, or both, 7 in")
]
ForceOpt = Annotated[bool, typer.Option("--force", help="redo work that is already done")]


def _print_version(asked: bool) -> None:
    if asked:
        typer.echo(f"devsort {__version__}")
        raise typer.Exit


@app.callback()
def every(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="print the version and end"
        ),
    ] = False,
) -> None:
    """Follow networks through training: the local learning coefficient, stages, heads.

    RUN is the path of a run folder.
    """


def main(argv: list[str] | None = None) -> None:
    """Entry point.

    Exit codes: 0 done, 2 a user's error in one line, 130/143 interrupted, 1 a defect of ours.
    """
    # waiting threads must not use the cores of other processes
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    signal.signal(signal.SIGTERM, _interrupt)
    # background jobs of a shell ignore it
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _interrupt)
    _accept_any_text()
    try:
        arguments = sys.argv[1:] if argv is None else argv
        result = app(arguments or ["--help"], prog_name="devsort", standalone_mode=False)
    except Interrupted as e:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # nothing is left for a second Ctrl-C to stop
        message = f"{INTERRUPTIONS[e.signum]}; {e.saved}, the same command goes on from there"
        _fail(message, 128 + e.signum)
    except Exception as e:
        if (line := users_error(e)) is None:
            raise
        _fail(f"error: {line}", 2)
    sys.exit(result if isinstance(result, int) else 0)


def emit(value: dict[str, Any], as_json: bool, table: Callable[[dict[str, Any]], str]) -> None:
    """Prints a result: the text of `table`, or one JSON object.

    In JSON a number that is not finite is null.
    """
    try:
        text = json.dumps(_finite(value), allow_nan=False) if as_json else table(value)
        print(text, flush=True)  # typer.echo would write UTF-8 to an ASCII console
    except OSError as e:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for what is still buffered
        if isinstance(e, BrokenPipeError):  # the reader has seen enough
            sys.exit(141)
        raise UserError(
            f"standard output cannot be written ({e.strerror})", "the work itself is saved"
        ) from None


def written(value: dict[str, Any]) -> str:
    """The lines that name the files of a result."""
    return "".join(f"\nwritten: {path}" for path in value.get("files", []))


def _finite(value: Any) -> Any:
    """The value with None for every number that is not finite, which JSON cannot hold."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    return [_finite(item) for item in value] if isinstance(value, list | tuple) else value


def _accept_any_text() -> None:
    """Makes a console show characters that its encoding lacks as \\u escapes."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _interrupt(signum: int, _: object) -> None:
    Interrupted.heard.append(signum)
    raise Interrupted(signum)


def _fail(message: str, code: int) -> None:
    with suppress(OSError):  # the log may be on the full disk as well
        print(f"devsort: {message}", file=sys.stderr)
    sys.exit(code)
