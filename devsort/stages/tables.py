"""Reads a trajectory from a table in CSV or a similar format.

Fields are separated by commas, semicolons, tabs, bars or blanks; the first line determines which.
Numbers have a decimal point, or all have a decimal comma. Ambiguous input is an error.
"""

import csv
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from devsort.errors import UserError
from devsort.stages.columns import chosen_columns, find_columns
from devsort.stages.trajectory import (
    LARGEST,
    LARGEST_STEP,
    MAX_BYTES,
    MAX_POINTS,
    MIN_POINTS,
    Trajectory,
    known_errors,
    positive_errors,
)

SEPARATORS = ",;\t|"
MISSING = {"", "nan", "na", "n/a", "none", "null", "-"}
UNFLAGGED = MISSING | {"0", "0.0", "false", "no", "[]", "()", "–"}
COMMENT = re.compile(r"\s*#|sep=.$", re.IGNORECASE)  # Excel writes the second form
NUMERIC = re.compile(r"[\d.,eE+-]+")
DECIMAL_COMMA = re.compile(r"[+-]?\d*,\d+(e[+-]?\d+)?", re.IGNORECASE)
THOUSANDS = re.compile(r"[+-]?[1-9]\d{0,2}[.,]\d{3}")  # or a number between 1 and 1000
Cell = tuple[int, str, str]  # line of the file, role, text


def read_csv(path: str | os.PathLike, columns: Iterable[str] = ()) -> Trajectory:
    """Reads a trajectory from a table with columns step, llc and optionally se, loss and flag.

    Other columns are ignored. Some problems are repaired, with a note: rows out of order are
    sorted; rows at step 0, or with an empty or NaN llc, are left out; an se that is missing, zero
    or below the rounding error of llc is replaced by the median of the others. If there is a
    standard deviation between chains instead of se, it is divided by the square root of their
    number.

    Args:
        path: The file, in UTF-8, or in UTF-16 with a byte order mark.
        columns: `role=name`, for names that `devsort.stages.columns` does not recognize;
            `chains=4` gives the number of chains.

    Raises:
        UserError: If the file or a column does not exist, a role matches several columns, a row is
            not as wide as the first line, a number is not a number or is ambiguous, a step is
            invalid or occurs twice, or there are too few points.
    """
    path, chosen = Path(path), chosen_columns(columns)
    chains = _chains(chosen)
    lines = _lines(_text(path))
    header, rows = _cells(lines, path)
    place, notes = find_columns(header, chosen, path)
    used = [{role: (line, role, row[i].strip()) for role, i in place.items()} for line, row in rows]
    _refuse_size(len(used), path)
    values, error_notes = _with_error(_values(used, path), chains, place, header)
    _check_chains(values, path)
    trajectory, repairs = _repaired(values, path)
    _check_steps(trajectory.step, path)
    return replace(trajectory, notes=(*notes, *error_notes, *repairs))


def _chains(chosen: dict[str, str]) -> float | None:
    """Returns the number of chains if it is given as a number, and removes it from the columns."""
    if not chosen.get("chains", "").isdecimal():
        return None
    chains = float(chosen.pop("chains"))
    if not 1 <= chains <= LARGEST:
        what = f"--columns chains={chains:g} is not a number of chains"
        raise UserError(what, "give 1 or more")
    return chains


def _text(path: Path) -> str:
    if not path.is_file():
        raise UserError(
            f"{path} is missing", "give a CSV with the columns step, llc, se and optionally loss"
        )
    if path.stat().st_size > MAX_BYTES:
        raise UserError(
            f"{path} is larger than {MAX_BYTES:,} bytes",
            "keep only the columns step, llc, se and loss",
        )
    try:
        data = path.read_bytes()
        wide = data.startswith((b"\xff\xfe", b"\xfe\xff"))
        return data.decode("utf-16" if wide else "utf-8").lstrip("\ufeff")
    except (OSError, UnicodeDecodeError) as e:
        raise UserError(
            f"{path} is not a readable CSV ({e})", "save it as UTF-8 text with commas"
        ) from None


def _lines(text: str) -> list[tuple[int, str]]:
    """Returns the lines with their numbers, without comments, but with a header in a comment."""
    numbered = [(i, line) for i, line in enumerate(text.splitlines(), 1) if line.strip()]
    lines = [(i, line) for i, line in numbered if not COMMENT.match(line)]
    first = lines[0][0] if lines else 0
    before = [(i, line.lstrip("# ")) for i, line in numbered if i < first]
    # numpy.savetxt writes the header as a comment
    if before and lines and not re.search(r"[A-Za-z]{3}", lines[0][1]):
        return [before[-1], *lines]
    return lines


def _cells(
    lines: Sequence[tuple[int, str]], path: Path
) -> tuple[list[str], list[tuple[int, list[str]]]]:
    """Returns the fields of the first line, and the fields of each row with its line number."""
    first = lines[0][1] if lines else ""
    separator = max(SEPARATORS, key=first.count)
    separator = separator if separator in first else " "
    try:
        fields = csv.reader(
            (line.strip() if separator == " " else line for _, line in lines),
            delimiter=separator,
            skipinitialspace=True,
            strict=True,
        )
        table = [list(row) for row in fields]
    except csv.Error as e:
        raise UserError(
            f"{path} is not a readable CSV ({e})", "save it as UTF-8 text with commas"
        ) from None
    if len(table) != len(lines):
        raise UserError(f"{path} has a field over several lines", "put each row on one line")
    width = len(table[0]) if table else 0
    numbered = [(line, row) for (line, _), row in zip(lines, table, strict=True)][1:]
    rows = [(i, _fitted(row, width, i, separator, path)) for i, row in numbered if _filled(row)]
    return (table[0] if table else []), rows


def _fitted(row: list[str], width: int, line: int, separator: str, path: Path) -> list[str]:
    """Returns the row at the width of the first line, without empty fields beyond it."""
    if len(row) >= width and not _filled(row[width:]):
        return row[:width]
    what = f"{path} line {line} has {len(row)} fields, the first line has {width}"
    fix = "give every row as many fields as the first line"
    if len(row) > width and separator == ",":
        fix += "; if commas are decimal marks, separate the fields by semicolons"
    raise UserError(what, fix)


def _filled(row: Sequence[str]) -> bool:
    return any(cell.strip() for cell in row)


def _refuse_size(points: int, path: Path) -> None:
    for limit, wrong, bound, fix in (
        (MIN_POINTS, points < MIN_POINTS, "more", "add points"),
        (MAX_POINTS, points > MAX_POINTS, "fewer", "keep some, evenly spaced in log step"),
    ):
        if wrong:
            raise UserError(f"{path} has {points} points, expected {limit} or {bound}", fix)


def _values(rows: Sequence[Mapping[str, Cell]], path: Path) -> dict[str, np.ndarray]:
    """Returns role → values (n,); for the role flag, whether there is a flag."""
    numeric = [role for role in rows[0] if role != "flag"]
    comma = _decimal_comma([row[role] for row in rows for role in numeric], path)
    if not comma:
        _refuse_thousands([row["step"] for row in rows], path)
    values = {role: np.array([_number(row[role], comma, path) for row in rows]) for role in numeric}
    if "flag" in rows[0]:
        values["flag"] = np.array([row["flag"][2].lower() not in UNFLAGGED for row in rows])
    return values


def _decimal_comma(cells: Sequence[Cell], path: Path) -> bool:
    """Whether commas are decimal marks.

    Raises:
        UserError: If they could separate thousands.
    """
    with_comma = [cell for cell in cells if "," in cell[2] and NUMERIC.fullmatch(cell[2])]
    plain = all(DECIMAL_COMMA.fullmatch(text) for _, _, text in with_comma)
    both = any("." in text for _, _, text in cells)
    clear = any(not THOUSANDS.fullmatch(text) for _, _, text in with_comma)
    if not with_comma or (plain and clear and not both):
        return bool(with_comma)
    line, role, text = with_comma[0]
    what = f"{path} line {line}: {role} is {text[:40]!r}, where the comma can be a decimal mark"
    fix = "write numbers with a decimal point and no other separator"
    raise UserError(f"{what} or separate thousands", fix)


def _refuse_thousands(steps: Sequence[Cell], path: Path) -> None:
    """Raises an error for steps such as 1.000, unless others show that this is a decimal point."""
    with_point = [cell for cell in steps if "." in cell[2]]
    if not with_point or any(not THOUSANDS.fullmatch(text) for _, _, text in with_point):
        return
    line, _, text = with_point[0]
    what = f"{path} line {line}: step is {text!r}, where the point can be a decimal mark"
    raise UserError(f"{what} or separate thousands", "write steps as whole numbers")


def _number(cell: Cell, comma: bool, path: Path) -> float:
    line, role, text = cell
    if text.lower() in MISSING:
        return np.nan
    try:
        value = float(text.replace(",", ".") if comma else text)
    except ValueError:
        raise UserError(
            f"{path} line {line}: {role} is {text[:40]!r}, expected a number", "correct the line"
        ) from None
    largest = LARGEST_STEP if role == "step" else LARGEST
    if largest < abs(value) < np.inf:
        raise UserError(
            f"{path} line {line}: {role} is {value:g}, beyond {largest:g}", "correct the line"
        )
    return value


def _with_error(
    values: dict[str, np.ndarray],
    chains: float | None,
    place: Mapping[str, int],
    header: Sequence[str],
) -> tuple[dict[str, np.ndarray], list[str]]:
    """Adds se = std / sqrt(chains) if there is no se, with a note on how it was computed."""
    if "se" in values or "std" not in values:
        return values, []
    name = repr(header[place["std"]].strip())
    number = values.get("chains") if chains is None else np.array(chains)
    if number is None:
        note = f"the standard deviation {name} was used as the standard error"
        fix = "give the number of chains, as in --columns chains=4"
        return {**values, "se": values["std"]}, [f"{note}: {fix}"]
    count = f"{chains:g}" if chains else f"from the column {header[place['chains']].strip()!r}"
    with np.errstate(all="ignore"):
        error = values["std"] / np.sqrt(number)
    note = f"the standard error is the standard deviation {name} divided by the square root"
    return {**values, "se": error}, [f"{note} of the number of chains ({count})"]


def _check_chains(values: Mapping[str, np.ndarray], path: Path) -> None:
    chains = values.get("chains", np.array([]))
    bad = chains[np.isfinite(chains) & ((chains < 1) | (chains % 1 != 0))]
    if len(bad):
        raise UserError(f"{path}: {bad[0]:g} is not a number of chains", "give 1 or more")


def _repaired(columns: dict[str, np.ndarray], path: Path) -> tuple[Trajectory, list[str]]:
    notes = []
    zero, finite = columns["step"] == 0, np.isfinite(columns["llc"])
    _refuse_few(finite, zero, path)
    if zero.any():
        notes.append(f"{int(zero.sum())} rows at step 0 were left out, because it has no logarithm")
    if not finite[~zero].all():
        notes.append(f"{int((~finite & ~zero).sum())} rows without a finite llc were left out")
    columns = {k: v[finite & ~zero] for k, v in columns.items()}
    order = np.argsort(columns["step"], kind="stable")
    if (np.diff(order) < 0).any():
        notes.append("rows were sorted by step")
    columns = {k: v[order] for k, v in columns.items()}
    step, llc = columns["step"], columns["llc"]
    se = columns.get("se", np.full(len(order), np.nan))
    without = int((~known_errors(se, llc)).sum())
    if 0 < without < len(se):
        notes.append(f"{without} points without a positive se were given the median of the others")
    se, flagged = positive_errors(se, llc), columns.get("flag")
    return Trajectory(step, llc, se, columns.get("loss"), flagged=flagged), notes


def _refuse_few(finite: np.ndarray, zero: np.ndarray, path: Path) -> None:
    usable = int((finite & ~zero).sum())
    if usable >= MIN_POINTS:
        return
    at_zero, unknown = int(zero.sum()), int((~finite & ~zero).sum())
    why = [f"{at_zero} at step 0, which has no logarithm"] if at_zero else []
    why += [f"{unknown} without a finite llc"] if unknown else []
    what = f"{path} has {len(finite)} rows, of which {usable} can be used ({', '.join(why)})"
    raise UserError(f"{what}; expected {MIN_POINTS} or more", "add checkpoints")


def _check_steps(step: np.ndarray, path: Path) -> None:
    bad = step[~(np.isfinite(step) & (step >= 1))]
    if len(bad):
        raise UserError(
            f"{path}: step {bad[0]:g} is not a finite number of at least 1", "give steps from 1 on"
        )
    twice = step[1:][np.diff(np.log10(step)) == 0]
    if len(twice):
        fix = "keep one row per step, of one seed and one restriction"
        raise UserError(f"{path}: step {twice[0]:.15g} occurs twice", fix)
