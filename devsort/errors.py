"""Errors that a user can cause. Anything else that is raised is a defect of devsort."""


class UserError(Exception):
    """A user's mistake, told in one line: what is wrong, where, and what to do.

    The command line prints it as `devsort: error: …` and exits with code 2.

    Args:
        what: What is wrong, naming the file, key or value: got and expected.
        fix: What to do about it, an imperative or a command.
    """

    def __init__(self, what: str, fix: str = "") -> None:
        self.what, self.fix = one_line(what), one_line(fix)
        super().__init__(f"{self.what}; {self.fix}" if fix else self.what)


class InUse(UserError):
    """Another process holds a run folder."""


def one_line(text: str) -> str:
    """Folds white space and escapes what a terminal would act on, whatever a file name or value contains."""
    folded = " ".join(str(text).split())
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in folded)
