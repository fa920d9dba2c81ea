"""What a soak found: a row for each fault, and one table."""

from dataclasses import dataclass, field


@dataclass
class Row:
    """One kind of fault.

    Attributes:
        fault: Its name.
        tried: How often it was done.
        losses: What was lost, one sentence each.
        note: What else was measured.
    """

    fault: str
    tried: int = 0
    losses: list[str] = field(default_factory=list)
    note: str = ""

    @property
    def survived(self) -> int:
        """How often nothing was lost."""
        return self.tried - len(self.losses)

    def count(self, problem: str | None) -> None:
        """Counts one fault, and what it cost if it did."""
        self.tried += 1
        if problem:
            self.losses.append(problem)


def table(rows: list[Row]) -> str:
    """Fault, tried, survived, lost, as text; what was lost is told below."""
    head = f"{'fault':44} {'tried':>7} {'survived':>9} {'lost':>5}  note"
    lines = [
        f"{r.fault:44} {r.tried:7,} {r.survived:9,} {len(r.losses):5}  {r.note}".rstrip()
        for r in rows
    ]
    told = [f"lost, {r.fault}: {problem}" for r in rows for problem in r.losses]
    return "\n".join([head, *lines, *told])
