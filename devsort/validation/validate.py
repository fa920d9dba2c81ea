"""`devsort validate`: compares the sampler with known answers."""

import math
import time
from collections.abc import Sequence
from typing import Any

from devsort.errors import UserError
from devsort.execution.progress import progress
from devsort.validation.cases import Case, all_cases


def chosen(names: Sequence[str] = (), fast: bool = False, cases: Sequence[Case] = ()) -> list[Case]:
    """Selects cases by name.

    Args:
        names: Names of the cases. If empty, all cases.
        fast: Whether to select only fast cases.
        cases: The cases to select from. If empty, `all_cases()`.

    Raises:
        UserError: If there is no case with one of the names.
    """
    by_name = {case.name: case for case in cases or all_cases()}
    unknown = [name for name in names if name not in by_name]
    if unknown:
        raise UserError(f"there is no case {unknown[0]!r}", f"choose from: {', '.join(by_name)}")
    selected = [by_name[name] for name in dict.fromkeys(names)] or list(by_name.values())
    return [case for case in selected if case.fast or not fast]


def run_cases(
    names: Sequence[str] = (), fast: bool = False, cases: Sequence[Case] = ()
) -> dict[str, Any]:
    """Runs cases and compares them with their truth.

    Args:
        names: Names of the cases. If empty, all cases.
        fast: Whether to run only fast cases.
        cases: The cases to select from. If empty, `all_cases()`.

    Returns:
        {"cases": [...], "ok"}. Each case has the keys case, what, true, estimate, se, z, tolerance,
        se_bound, limit, seconds, ok. Numbers that are not finite are None.

    Raises:
        UserError: If there is no case with one of the names.
    """
    rows = []
    with progress(
        total=len(selected := chosen(names, fast, cases)), desc="validate", unit="case"
    ) as bar:
        for case in selected:
            bar.set_postfix_str(case.name)
            rows.append(check(case))
            bar.update()
    return {"cases": rows, "ok": all(row["ok"] for row in rows)}


def check(case: Case) -> dict[str, Any]:
    """Runs one case and compares the estimate with the truth."""
    start = time.perf_counter()
    truth, (estimate, se) = case.truth(), case.measure()
    off = estimate - truth.value
    # false for NaN
    ok = abs(off) <= case.tolerance and 0 < se <= case.se_bound and truth.error <= case.slack
    numbers = {
        "true": truth.value,
        "estimate": estimate,
        "se": se,
        "z": off / se if se else math.nan,
    }
    bounds = {"tolerance": case.tolerance, "se_bound": case.se_bound, "limit": case.limit}
    row = {name: _number(value) for name, value in (numbers | bounds).items()}
    return {
        "case": case.name,
        "what": case.what,
        **row,
        "seconds": time.perf_counter() - start,
        "ok": ok,
    }


def table(value: dict[str, Any]) -> str:
    """Formats the result as text."""
    header = ("case", "λ", "true", "estimate", "se", "z", "tolerance", "seconds", "")
    lines = [header] + [_cells(row) for row in value["cases"]]
    widths = [max(len(line[i]) for line in lines) for i in range(len(header))]
    text = [
        "  ".join([line[0].ljust(widths[0]), *map(str.rjust, line[1:], widths[1:])]).rstrip()
        for line in lines
    ]
    failed = sum(not row["ok"] for row in value["cases"])
    seconds = sum(row["seconds"] for row in value["cases"])
    end = (
        f"{failed} of {len(value['cases'])} cases FAIL"
        if failed
        else f"all {len(value['cases'])} cases pass"
    )
    return "\n".join([*text, "", f"{end}, {seconds:.0f} s"])


def _cells(row: dict[str, Any]) -> tuple[str, ...]:
    values = (_shown(row[key], 4) for key in ("limit", "true", "estimate", "se"))
    verdict = "passes" if row["ok"] else "FAILS"
    return (
        row["case"],
        *values,
        _shown(row["z"], 1),
        _shown(row["tolerance"], 4),
        f"{row['seconds']:.1f}",
        verdict,
    )


def _shown(value: float | None, digits: int) -> str:
    return "–" if value is None else f"{value:.{digits}f}"


def _number(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else float(value)
