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
    """The process is asked to end by SIGINT or SIGTERM; raised where the work stands.

    Args:
        signum: The signal.

    Attributes:
        heard: Of the class: all signals that this process received.
    """

    heard: ClassVar[list[int]] = []

    def __init__(self, signum: int) -> None:
        super().__init__(signum)
        self.signum, self.saved = signum, "finished work is saved"


@contextmanager
def saying(saved: Callable[[], str]) -> Iterator[None]:
    """Has an interruption of the block say what is saved, such as `steps 1 to 150 of 300 are
    saved`.
    """
    try:
        yield
    except Interrupted as e:
        e.saved = saved()
        raise


@contextmanager
def interruptible() -> Iterator[None]:
    """Around compiled code that calls Python.

    Raises an interruption that it swallows or turns into its own error.
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
    """Folds white space and escapes what a terminal would act on, whatever a file name or value
    contains.
    """
    folded = " ".join(str(text).split())
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in folded)
