"""Errors that a user can cause, and interruptions.

Anything else that is raised is a defect of devsort.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import ClassVar


class UserError(Exception):
    """A user's mistake in one line: what is wrong, where, and what to do.

    The command line prints it as `devsort: error: …` and exits with code 2.

    Args:
        what: What is wrong, naming the file, key or value: got and expected.
        fix: What to do about it, an imperative or a command.
    """

    def __init__(self, what: str, fix: str = "") -> None:
        self.what, self.fix = one_line(what), one_line(fix)
        super().__init__(f"{self.what}; {self.fix}" if fix else self.what)


class Stale(UserError):
    """An artifact is intact, but was made from another config or from other inputs."""


class Unfinished(UserError):
    """An artifact is intact, but its command has not finished."""


class Interrupted(BaseException):
    """SIGINT or SIGTERM asked the process to end; raised wherever the work is at that moment.

    Args:
        signum: The signal.

    Attributes:
        heard: All signals that this process received (an attribute of the class).
    """

    heard: ClassVar[list[int]] = []

    def __init__(self, signum: int) -> None:
        super().__init__(signum)
        self.signum, self.saved = signum, "finished work is saved"


@contextmanager
def saying(saved: Callable[[], str]) -> Iterator[None]:
    """Adds to an interruption of the block what is saved: `steps 1 to 150 of 300 are saved`."""
    try:
        yield
    except Interrupted as e:
        e.saved = saved()
        raise


@contextmanager
def interruptible() -> Iterator[None]:
    """Raises an interruption that compiled code in the block swallowed or turned into an error.

    Compiled code that calls Python may do either.
    """
    before = len(Interrupted.heard)
    try:
        yield
    except Exception:
        if len(Interrupted.heard) == before:
            raise
    if len(Interrupted.heard) > before:
        raise Interrupted(Interrupted.heard[-1])


class InUse(UserError):
    """Another process has locked the run folder."""


def one_line(text: str) -> str:
    """Text on one line: white space folded, control characters of a terminal escaped."""
    folded = " ".join(str(text).split())
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in folded)
