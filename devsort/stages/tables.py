"""A trajectory from a table that somebody else wrote: CSV and its relatives.

Fields are separated by commas, semicolons, tabs, bars or blanks, as the first line has them.
Numbers have a decimal point, or a decimal comma throughout. What could be read in two ways is
refused.
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
COMMENT = re.compile(r"\s*#|sep=.$", re.IGNORECASE)  # the second is Excel's
NUMERIC = re.compile(r"[\d.,eE+-]+")
DECIMAL_COMMA = re.compile(r"[+-]?\d*,\d+(e[+-]?\d+)?", re.IGNORECASE)
THOUSANDS = re.compile(r"[+-]?[1-9]\d{0,2}[.,]\d{3}")  # or a number between 1 and 1000
Cell = tuple[int, str, str]  # line of the file, role, text


def read_csv(path: str | os.PathLike, columns: Iterable[str] = ()) -> Trajectory:
    """Reads a trajectory from a table with columns step, llc and optionally se, loss and flag.

    Other columns are ignored. Repaired, with a note: rows out of order (sorted), rows at step 0 or
    whose llc is empty or NaN (left out), an se that is missing, zero or below the rounding of llc
    (the median of the others). A standard deviation between chains in place of se is divided by
    the root of their number.

    Args:
        path: The file, in UTF-8 or, with its mark, UTF-16.
        columns: `role=name`, where the names are others than those of `devsort.stages.columns`;
            `chains=4` gives the number of chains.

    Raises:
        UserError: No such file, no such columns or two that could be meant, rows of another width
            than the first line, text where a number belongs, numbers that can be read in two ways,
            an impossible step, a step twice, or too few points.
    """
    path, chosen = Path(path), chosen_columns(columns)
    chains = _chains(chosen)
    lines = _lines(_text(path))
    header, rows = _cells(lines, path)
    found, notes = find_columns(header, chosen, path)
    used = [{role: (line, role, row[i].strip()) for role, i in found.items()} for line, row in rows]
    _refuse_size(len(used), path)
    values, told = _with_error(_values(used, path), chains, found, header)
    _check_chains(values, path)
    trajectory, repaired = _repaired(values, path)
    _check_steps(trajectory.step, path)
    return replace(trajectory, notes=(*notes, *told, *repaired))


def _chains(chosen: dict[str, str]) -> float | None:
    """The number of chains, if it is given as one; it is taken out of the choice of columns."""
    if not chosen.get("chains", "").isdecimal():
        return None
    chains = float(chosen.pop("chains"))
    if not 1 <= chains <= LARGEST:
        raise UserError(f"--columns chains={chains:g} is no number of chains", "give 1 or more")
    return chains


def _text(path: Path) -> str:
    if not path.is_file():
        raise UserError(
            f"{path} is missing", "give a CSV with the columns step, llc, se and optionally loss"
        )
    if path.stat().st_size > MAX_BYTES:
        raise UserError(
            f"{path} is larger than {MAX_BYTES:,} bytes",
            "keep the columns step, llc, se and loss alone",
        )
    try:
        data = path.read_bytes()
        wide = data.startswith((b"\xff\xfe", b"\xfe\xff"))
        return data.decode("utf-16" if wide else "utf-8").lstrip("\ufeff")
    except (OSError, UnicodeDecodeError) as e:
        raise UserError(
            f"{path} is no readable CSV ({e})", "save it as UTF-8 text with commas"
        ) from None


def _lines(text: str) -> list[tuple[int, str]]:
    """The lines with their numbers, without comments; a header that is one comment stays."""
    numbered = [(i, line) for i, line in enumerate(text.splitlines(), 1) if line.strip()]
    lines = [(i, line) for i, line in numbered if not COMMENT.match(line)]
    first = lines[0][0] if lines else 0
    before = [(i, line.lstrip("# ")) for i, line in numbered if i < first]
    # numpy.savetxt writes the names as a comment
    if before and lines and not re.search(r"[A-Za-z]{3}", lines[0][1]):
        return [before[-1], *lines]
    return lines


def _cells(
    lines: Sequence[tuple[int, str]], path: Path
) -> tuple[list[str], list[tuple[int, list[str]]]]:
    """The fields of the first line, and of each row with its line number."""
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
            f"{path} is no readable CSV ({e})", "save it as UTF-8 text with commas"
        ) from None
    if len(table) != len(lines):
        raise UserError(f"{path} has a field over several lines", "put each row on one line")
    width = len(table[0]) if table else 0
    numbered = [(line, row) for (line, _), row in zip(lines, table, strict=True)][1:]
    rows = [(i, _fitted(row, width, i, separator, path)) for i, row in numbered if _filled(row)]
    return (table[0] if table else []), rows


def _fitted(row: list[str], width: int, line: int, separator: str, path: Path) -> list[str]:
    """The row, as wide as the first line; what is empty beyond it is left out."""
    if len(row) >= width and not _filled(row[width:]):
        return row[:width]
    what = f"{path} line {line} has {len(row)} fields, the first line has {width}"
    fix = "give every row as many fields as the first line"
    if len(row) > width and separator == ",":
        fix += "; where commas are decimal marks, separate the fields by semicolons"
    raise UserError(what, fix)


def _filled(row: Sequence[str]) -> bool:
    return any(cell.strip() for cell in row)


def _refuse_size(points: int, path: Path) -> None:
    for limit, wrong, bound, fix in (
        (MIN_POINTS, points < MIN_POINTS, "more", "add points"),
        (MAX_POINTS, points > MAX_POINTS, "fewer", "keep some, over log step"),
    ):
        if wrong:
            raise UserError(f"{path} has {points} points, expected {limit} or {bound}", fix)


def _values(rows: Sequence[Mapping[str, Cell]], path: Path) -> dict[str, np.ndarray]:
    """Role → (n,) values; of flag, whether there is one."""
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
        UserError: They could separate thousands.
    """
    with_comma = [cell for cell in cells if "," in cell[2] and NUMERIC.fullmatch(cell[2])]
    plain = all(DECIMAL_COMMA.fullmatch(text) for _, _, text in with_comma)
    both = any("." in text for _, _, text in cells)
    clear = any(not THOUSANDS.fullmatch(text) for _, _, text in with_comma)
    if not with_comma or (plain and clear and not both):
        return bool(with_comma)
    line, role, text = with_comma[0]
    what = f"{path} line {line}: {role} is {text[:40]!r}, where the comma can be a decimal mark"
    raise UserError(f"{what} or separate thousands", "write numbers with a decimal point alone")


def _refuse_thousands(steps: Sequence[Cell], path: Path) -> None:
    """Refuses steps such as 500 and 1.000, unless others show that the point is a decimal mark."""
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
            f"{path} line {line}: {role} is {text[:40]!r}, expected a number", "mend the line"
        ) from None
    largest = LARGEST_STEP if role == "step" else LARGEST
    if largest < abs(value) < np.inf:
        raise UserError(
            f"{path} line {line}: {role} is {value:g}, beyond {largest:g}", "mend the line"
        )
    return value


def _with_error(
    values: dict[str, np.ndarray],
    chains: float | None,
    found: Mapping[str, int],
    header: Sequence[str],
) -> tuple[dict[str, np.ndarray], list[str]]:
    """The values with se = std / sqrt(chains) where there is no se, and how it was made."""
    if "se" in values or "std" not in values:
        return values, []
    name = repr(header[found["std"]].strip())
    number = values.get("chains") if chains is None else np.array(chains)
    if number is None:
        told = f"the standard deviation {name} was taken for the standard error as it is"
        fix = "give the number of chains that it is over, as in --columns chains=4"
        return {**values, "se": values["std"]}, [f"{told}: {fix}"]
    count = f"{chains:g}" if chains else f"as many as {header[found['chains']].strip()!r} says"
    with np.errstate(all="ignore"):
        error = values["std"] / np.sqrt(number)
    told = f"the standard error is the standard deviation {name} over the root of the number"
    return {**values, "se": error}, [f"{told} of chains, {count}"]


def _check_chains(values: Mapping[str, np.ndarray], path: Path) -> None:
    chains = values.get("chains", np.array([]))
    bad = chains[np.isfinite(chains) & ((chains < 1) | (chains % 1 != 0))]
    if len(bad):
        raise UserError(f"{path}: {bad[0]:g} is no number of chains", "give 1 or more")


def _repaired(columns: dict[str, np.ndarray], path: Path) -> tuple[Trajectory, list[str]]:
    notes = []
    zero, known = columns["step"] == 0, np.isfinite(columns["llc"])
    _refuse_few(known, zero, path)
    if zero.any():
        notes.append(f"{int(zero.sum())} rows at step 0 were left out: it has no logarithm")
    if not known[~zero].all():
        notes.append(f"{int((~known & ~zero).sum())} rows without a finite llc were left out")
    columns = {k: v[known & ~zero] for k, v in columns.items()}
    order = np.argsort(columns["step"], kind="stable")
    if (np.diff(order) < 0).any():
        notes.append("rows were sorted by step")
    columns = {k: v[order] for k, v in columns.items()}
    step, llc = columns["step"], columns["llc"]
    se = columns.get("se", np.full(len(order), np.nan))
    without = int((~known_errors(se, llc)).sum())
    if 0 < without < len(se):
        notes.append(f"{without} points without a positive se were given one")
    se, flagged = positive_errors(se, llc), columns.get("flag")
    return Trajectory(step, llc, se, columns.get("loss"), flagged=flagged), notes


def _refuse_few(known: np.ndarray, zero: np.ndarray, path: Path) -> None:
    usable = int((known & ~zero).sum())
    if usable >= MIN_POINTS:
        return
    at_zero, unknown = int(zero.sum()), int((~known & ~zero).sum())
    why = [f"{at_zero} at step 0, which has no logarithm"] if at_zero else []
    why += [f"{unknown} without a finite llc"] if unknown else []
    what = f"{path} has {len(known)} rows, of which {usable} can be used ({', '.join(why)})"
    raise UserError(f"{what}; expected {MIN_POINTS} or more", "add checkpoints")


def _check_steps(step: np.ndarray, path: Path) -> None:
    bad = step[~(np.isfinite(step) & (step >= 1))]
    if len(bad):
        raise UserError(
            f"{path}: step {bad[0]:g} has no logarithm to place it at",
            "start at step 1, all steps finite",
        )
    twice = step[1:][np.diff(np.log10(step)) == 0]
    if len(twice):
        fix = "keep one row a step, of one seed and one restriction"
        raise UserError(f"{path}: step {twice[0]:.15g} is there twice", fix)
