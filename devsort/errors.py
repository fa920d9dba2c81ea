"""Errors that a user can cause, and interruptions.

Any other exception is a bug in devsort.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import ClassVar


class UserError(Exception):
    """A user's mistake, described in one line: what is wrong, where, and what to do.

    The command line prints it as `devsort: error: …` and exits with code 2.

    Args:
        what: What is wrong. Names the file, key or value, what it is and what was expected.
        fix: What to do about it: an instruction or a command.
    """

    def __init__(self, what: str, fix: str = "") -> None:
        self.what, self.fix = one_line(what), one_line(fix)
        super().__init__(f"{self.what}; {self.fix}" if fix else self.what)


class Stale(UserError):
    """An artifact is intact, but was made from a different config or from different inputs."""


class Unfinished(UserError):
    """An artifact is intact, but its command has not finished."""


class Interrupted(BaseException):
    """Raised when SIGINT or SIGTERM asks the process to end, wherever it happens to be.

    Args:
        signum: The signal.

    Attributes:
        heard: All signals that this process has received (a class attribute).
    """

    heard: ClassVar[list[int]] = []

    def __init__(self, signum: int) -> None:
        super().__init__(signum)
        self.signum, self.saved = signum, "finished work is saved"


@contextmanager
def saying(saved: Callable[[], str]) -> Iterator[None]:
    """Records what is already saved if the block is interrupted.

    Args:
        saved: Returns the text, such as `steps 1 to 150 of 300 are saved`.
    """
    try:
        yield
    except Interrupted as e:
        e.saved = saved()
        raise


@contextmanager
def interruptible() -> Iterator[None]:
    """Raises `Interrupted` even if compiled code in the block hides it.

    Compiled code that calls Python may swallow the interruption or turn it into another error.
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
    """Puts text on one line: collapses white space and escapes control characters."""
    folded = " ".join(str(text).split())
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in folded)
