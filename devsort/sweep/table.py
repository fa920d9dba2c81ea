"""The tables of a study.

One row per run, and one row per point of its trajectory; Parquet and CSV have the same contents.
"""

import io
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from devsort.errors import UserError
from devsort.storage.files import write_atomic
from devsort.sweep.study import Cell

if TYPE_CHECKING:
    import pandas as pd

KINDS = {"table": "one row per run", "trajectories": "one row per point of a trajectory"}
SHOWN = {
    "loss": "{:.4f}",
    "accuracy": "{:.4f}",
    "llc_peak": "{:.0f}",
    "llc_final": "{:.0f}",
    "split_score": "{:.2f}",
    "suppression_score": "{:.2f}",
    "overlap_score": "{:.2f}",
    "stages": "{:.0f}",
    "labels": "{}",
}  # columns of the text table, and their formats


def rows(
    cells: Sequence[Cell], records: Mapping[str, Mapping[str, Any]], errors: Mapping[str, str]
) -> list[dict]:
    """The row of each cell that is done or has failed.

    It has cell, group, changed keys, results, seconds, version of devsort, and error.
    """
    return [
        {
            "cell": cell.name,
            "group": cell.group,
            **{key: _plain(value) for key, value in cell.values.items()},
            **(records[cell.name]["row"] if cell.name in records else {}),
            "seconds": sum(records[cell.name]["seconds"].values())
            if cell.name in records
            else None,
            "devsort": records[cell.name]["devsort"] if cell.name in records else None,
            "error": errors.get(cell.name),
        }
        for cell in cells
        if cell.name in records or cell.name in errors
    ]


def points(cells: Sequence[Cell], records: Mapping[str, Mapping[str, Any]]) -> list[dict]:
    """The trajectory of each finished cell; see `row.results`."""
    return [
        {
            "cell": cell.name,
            "group": cell.group,
            **{k: _plain(v) for k, v in cell.values.items()},
            **point,
        }
        for cell in cells
        if cell.name in records
        for point in records[cell.name]["trajectory"]
    ]


def write(out: Path, name: str, contents: Sequence[Mapping[str, Any]]) -> list[Path]:
    """Writes one of KINDS as NAME.parquet and NAME.csv; returns the paths."""
    import pandas as pd

    frame = pd.DataFrame(list(contents))
    parquet = io.BytesIO()
    frame.to_parquet(parquet, index=False)
    paths = [out / f"{name}.parquet", out / f"{name}.csv"]
    for path, data in zip(
        paths, (parquet.getvalue(), frame.to_csv(index=False).encode()), strict=True
    ):
        write_atomic(path, data)
    return paths


def load_table(out: str | os.PathLike) -> "pd.DataFrame":
    """One row per run.

    Raises:
        UserError: The sweep has written no table into the folder, or it is damaged.
    """
    return _load(Path(out) / "table.parquet")


def load_trajectories(out: str | os.PathLike) -> "pd.DataFrame":
    """One row per point of a trajectory; see `load_table`."""
    return _load(Path(out) / "trajectories.parquet")


def text(results: Sequence[Mapping[str, Any]], keys: Sequence[str]) -> str:
    """The rows as text: changed keys, the main results, and what failed."""
    done = [r for r in results if not r["error"]]
    columns = [c for c in (*keys, *SHOWN) if any(r.get(c) is not None for r in done)]
    grid = [["cell", *columns]]
    grid += [[r["cell"], *(_formatted(r, c) for c in columns)] for r in done]
    widths = [max(map(len, column)) for column in zip(*grid, strict=True)]
    lines = [
        "  ".join(v.ljust(w) for v, w in zip(line, widths, strict=True)).rstrip()
        for line in grid
        if done
    ]
    return "\n".join(
        [*lines, *(f"{r['cell']} failed: {r['error']}" for r in results if r["error"])]
    )


def _load(path: Path) -> "pd.DataFrame":
    import pandas as pd

    if not path.is_file():
        raise UserError(f"{path} is missing", "run `devsort sweep STUDY` first")
    try:
        return pd.read_parquet(path)
    except (OSError, ValueError) as e:  # pyarrow's errors are kinds of these
        raise UserError(
            f"{path} is damaged ({type(e).__name__})", "run `devsort sweep STUDY` again"
        ) from None


def _plain(value: Any) -> Any:
    """A value that one column of a table can hold."""
    return value if isinstance(value, bool | int | float | str | None) else str(value)


def _formatted(row: Mapping[str, Any], column: str) -> str:
    """A value with its flags."""
    value, flags = row.get(column), row.get(f"{column}_flags")
    cell = "–" if value is None else SHOWN.get(column, "{}").format(value)
    return f"{cell} [{flags}]" if flags else cell
