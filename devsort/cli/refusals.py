"""Which exceptions are caused by a user or the machine, and the one line that reports each.

All others are defects.
"""

import errno
from typing import Any

import typer

from devsort.errors import UserError, one_line

MACHINE = {"ENOSPC", "EDQUOT", "EFBIG", "EACCES", "EPERM", "EROFS", "EIO", "EMFILE", "ENFILE"}
# of click, or of the copy of it that newer typers carry
ClickException: Any = typer.BadParameter.__mro__[2]


def users_error(e: Exception) -> str | None:
    """The line that reports an error caused by a user or the machine; None for a defect of ours."""
    if isinstance(e, UserError):
        return str(e)
    if isinstance(e, ClickException):
        return f"{one_line(e.format_message()).rstrip('.')}; see `{_command_path(e)} --help`"
    if _out_of_memory(e):
        settings = "task.eval_lists, llc.dataset_size, a batch_size, num_chains or num_draws"
        return str(UserError(f"out of memory ({e})", f"lower what asks for it: {settings}"))
    if isinstance(e, OSError) and errno.errorcode.get(e.errno or 0) in MACHINE:
        fix = "make room or permissions, then run the same command: finished work is kept"
        what = f"{e.filename or 'a file'} cannot be read or written ({e.strerror})"
        return str(UserError(what, fix))
    return None


def _command_path(e: Exception) -> str:
    context = getattr(e, "ctx", None)
    return context.command_path if context else "devsort"


def _out_of_memory(e: Exception) -> bool:
    """numpy raises MemoryError, torch a RuntimeError that differs by device."""
    if isinstance(e, MemoryError):
        return True
    words = ("can't allocate memory", "out of memory")
    return isinstance(e, RuntimeError) and any(phrase in str(e) for phrase in words)
