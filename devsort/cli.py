"""The command line: thin commands over the package. Heavy imports happen inside the commands that need them."""

import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import click
import typer

from devsort.errors import UserError, one_line

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="Developmental interpretability on a transformer that sorts lists. RUN is the path of a run folder.",
)

RunArg = Annotated[Path, typer.Argument(metavar="RUN", help="run folder, for example runs/baseline")]
SetOpt = Annotated[list[str], typer.Option("--set", metavar="KEY=VALUE", help="override config.yaml, repeatable")]
JsonOpt = Annotated[bool, typer.Option("--json", help="print one JSON object on standard output and nothing else")]
ForceOpt = Annotated[bool, typer.Option("--force", help="redo work that is already done")]


def main(argv: list[str] | None = None) -> None:
    """Entry point. Exit codes: 0 done, 2 a user's error in one line, 130/143 interrupted, 1 a defect of ours."""
    signal.signal(signal.SIGTERM, _terminate)
    try:
        result = app(argv, standalone_mode=False)
    except UserError as e:
        _fail(str(e), 2)
    except click.ClickException as e:
        _fail(f"{one_line(e.format_message())}; see `{_command_path(e)} --help`", 2)
    except (KeyboardInterrupt, click.Abort):
        _fail("interrupted; finished work is saved, the same command goes on from there", 130)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)
    sys.exit(result if isinstance(result, int) else 0)


def emit(value: dict[str, Any], as_json: bool, table: Callable[[dict[str, Any]], str]) -> None:
    """Prints a command's result: one JSON object, or the text that `table` makes of it."""
    typer.echo(json.dumps(value, allow_nan=False) if as_json else table(value))


def _command_path(e: click.ClickException) -> str:
    context = getattr(e, "ctx", None)
    return context.command_path if context else "devsort"


def _terminate(*_: object) -> None:
    print("devsort: terminated; finished work is saved, the same command goes on from there", file=sys.stderr)
    sys.exit(143)


def _fail(message: str, code: int) -> None:
    print(f"devsort: error: {message}" if code == 2 else f"devsort: {message}", file=sys.stderr)
    sys.exit(code)
