"""Compares runs, with uncertainties.

It finds the stages that runs have in common, when they occur, the peak of the LLC and its fall. The
difference of two independent estimates a ± h_a and b ± h_b (95 % half widths) has the half width
sqrt(h_a² + h_b²). Steps are compared by their log10.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from devsort.stages import link
from devsort.stages.summary import FIGURES

DIFFERENCES = {
    "peak_llc": "peak LLC",
    "peak_step": "step of the peak (log10)",
    "final_llc": "final LLC",
    "fall": "fall from the peak",
}


def side_by_side(
    tables: Sequence[Mapping[str, Any]], stages: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    """Compares runs.

    Args:
        tables: For each run, its name under `run`, the figures of `devsort.stages.summary`, and
            further quantities to show in the table.
        stages: For each run, the JSON object of `devsort.stages.report`.

    Returns:
        runs (the tables), stages (rows of aligned stages), differences (of each run from the first)
        and link (a test of whether events are closer to boundaries than by chance, over all runs).
    """
    rows = aligned([one["stages"] for one in stages])
    return {
        "runs": list(tables),
        "stages": rows,
        "differences": [difference(tables, rows, i) for i in range(1, len(tables))],
        "link": link.permutation_test([_timeline(one) for one in stages]),
    }


def aligned(stages: Sequence[Sequence[Mapping[str, Any]]]) -> list[dict[str, Any]]:
    """Aligns the stages of several runs.

    Aligned stages have the same direction of the LLC, the same order, and the largest overlap.

    Returns:
        Rows of {"name", "llc", "runs": [stage of each run, or None]}. If the stages have different
        names, the row lists them all.
    """
    rows = [[s, *[None] * (len(stages) - 1)] for s in stages[0]]
    for i, others in enumerate(stages[1:], 1):
        rows = _merged(rows, others, i, len(stages))
    return [_row(row) for row in rows]


def difference(
    tables: Sequence[Mapping[str, Any]], rows: Sequence[Mapping[str, Any]], i: int
) -> dict[str, Any]:
    """Returns the differences between run i and run 0, with 95 % intervals.

    These are the differences of the figures and, for stages that both runs have, of the ends of the
    stages and the LLC there.
    """
    a, b = tables[0], tables[i]
    figures = {
        key: _minus(_with_half(b, key), _with_half(a, key)) | {"flags": _flags(key, a, b)}
        for key in FIGURES
    }
    steps = _minus(*(_log(t["peak_step"], t["peak_step_ci95"]) for t in (b, a)))
    figures["peak_step"] = steps | {"flags": _flags("peak_llc", a, b)}
    shared = [r for r in rows if r["runs"][0] and r["runs"][i]]
    ends = [_ends(row, row["runs"][0], row["runs"][i]) for row in shared]
    return {"run": b["run"], "reference": a["run"], **figures, "stages": ends}


def _ends(
    row: Mapping[str, Any], before: Mapping[str, Any], after: Mapping[str, Any]
) -> dict[str, Any]:
    """Returns the difference between the ends of a stage in two runs, `after` minus `before`."""
    inside = _ends_inside(before, after)
    steps = [_log(stage["to"], stage["to_ci95"]) for stage in (after, before)]
    return {
        "name": row["name"],
        "llc": row["llc"],
        "to_log10": _minus(*steps) if inside else None,
        "llc_to": _minus(_with_half(after, "llc_to"), _with_half(before, "llc_to")),
    }


def markdown(value: Mapping[str, Any]) -> str:
    """Formats the comparison as Markdown: figures, aligned stages, differences."""
    parts = ["# Comparison", _figures(value["runs"]), "## Stages", _stages(value)]
    if value["differences"]:
        parts += ["## Differences, with 95 % intervals", _differences(value["differences"])]
    test = value["link"]
    if test["events"]:
        parts.append(
            f"On average, events are {test['mean_distance_log10']:.2f} decades away from the "
            f"nearest boundary; by chance, {test['expected_log10']:.2f} (p = {test['p']:.3g}, "
            f"{test['events']} events in {test['runs']} runs)."
        )
    return "\n\n".join(parts) + "\n"


def _merged(
    rows: list[list], others: Sequence[Mapping[str, Any]], i: int, width: int
) -> list[list]:
    """Aligns the stages of run i to the rows, by dynamic programming over the total similarity."""
    heads = [next(s for s in row if s) for row in rows]
    n, m = len(rows), len(others)
    best = np.zeros((n + 1, m + 1))
    for a in range(n - 1, -1, -1):
        for b in range(m - 1, -1, -1):
            best[a, b] = max(
                best[a + 1, b], best[a, b + 1], best[a + 1, b + 1] + similarity(heads[a], others[b])
            )
    out, a, b = [], 0, 0
    while a < n or b < m:
        if a < n and b < m and best[a, b] > max(best[a + 1, b], best[a, b + 1]):
            out.append([*rows[a][:i], others[b], *rows[a][i + 1 :]])
            a, b = a + 1, b + 1
        elif b == m or (a < n and best[a + 1, b] >= best[a, b + 1]):
            out.append(rows[a])
            a += 1
        else:
            out.append([*[None] * i, others[b], *[None] * (width - i - 1)])
            b += 1
    return out


def similarity(a: Mapping[str, Any], b: Mapping[str, Any]) -> float:
    """Returns the similarity of two stages, which is 0 if the directions of the LLC differ.

    Otherwise it is 1, plus 1 if they have the same name, plus their overlap in log step divided by
    their union.
    """
    if a["llc"] != b["llc"]:
        return 0.0
    lows, highs = np.log10([a["from"], b["from"]]), np.log10([a["to"], b["to"]])
    union = max(float(highs.max() - lows.min()), 1e-9)
    overlap = max(0.0, float(highs.min() - lows.max())) / union
    return 1.0 + (a["name"] == b["name"] != "unnamed") + overlap


def _ends_inside(*stages: Mapping[str, Any]) -> bool:
    """Whether each stage ends at a boundary rather than at the end of its run."""
    return all(s["to_ci95"][0] < s["to_ci95"][1] for s in stages)


def _row(row: list) -> dict[str, Any]:
    stages = [s for s in row if s]
    names = list(dict.fromkeys(s["name"] for s in stages))
    return {"name": " / ".join(names), "llc": stages[0]["llc"], "runs": row}


def _timeline(stages: Mapping[str, Any]) -> link.Timeline:
    def logs(key: str) -> np.ndarray:
        return np.log10([item["step"] for item in stages[key]] or np.empty(0))

    ends = np.log10([stages["stages"][0]["from"], stages["stages"][-1]["to"]])
    return link.Timeline(logs("events"), logs("boundaries"), *map(float, ends))


def _log(step: float, ci95: Sequence[float]) -> tuple[float, float]:
    return float(np.log10(step)), float(np.log10(ci95[1]) - np.log10(ci95[0])) / 2


def _with_half(figures: Mapping[str, Any], key: str) -> tuple[float, float]:
    """Returns a figure and half the width of its interval."""
    low, high = figures[f"{key}_ci95"] or (np.nan, np.nan)
    return figures[key], (high - low) / 2


def _flags(key: str, *tables: Mapping[str, Any]) -> list[str]:
    """Returns the flags that a figure has in any of the tables."""
    return list(dict.fromkeys(flag for t in tables for flag in t[f"{key}_flags"]))


def _minus(b: tuple[float, float], a: tuple[float, float]) -> dict[str, Any]:
    value, half = b[0] - a[0], float(np.hypot(a[1], b[1]))
    return {"difference": value, "ci95": [value - half, value + half]}


def _grid(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _figures(tables: Sequence[Mapping[str, Any]]) -> str:
    columns = {
        "run": lambda t: t["run"],
        "peak LLC": lambda t: _cell(t, "peak_llc"),
        "step of peak": lambda t: f"{t['peak_step']:.4g}{_between(t['peak_step_ci95'])}",
        "final LLC": lambda t: _cell(t, "final_llc"),
        "fall": lambda t: _cell(t, "fall"),
        "flagged": lambda t: f"{t['flagged']:.0%}",
        **MORE,
    }
    return _grid(list(columns), [[form(t) for form in columns.values()] for t in tables])


def _cell(table: Mapping[str, Any], key: str) -> str:
    return f"{table[key]:.4g}{_between(table[f'{key}_ci95'])}{flag_mark(table[f'{key}_flags'])}"


def flag_mark(flags: Sequence[str]) -> str:
    """Returns the text that follows a flagged number in a table, such as ` [not_converged]`."""
    return f" [{', '.join(flags)}]" if flags else ""


def _between(interval: Sequence[float] | None) -> str:
    return "" if interval is None else f" ({interval[0]:.4g} to {interval[1]:.4g})"


def _number(table: Mapping[str, Any], key: str, form: str) -> str:
    return "–" if table.get(key) is None else format(table[key], form)


MORE = {
    "loss (nats)": lambda t: _number(t, "loss", ".3g"),
    "split score": lambda t: _number(t, "split_score", ".2f"),
    "split onset (step)": lambda t: (
        _number(t, "split_onset", ".4g") + _between(t.get("split_onset_ci95"))
    ),
}  # further columns, for runs of the sorting model


def _stages(value: Mapping[str, Any]) -> str:
    def cell(s: Mapping[str, Any] | None) -> str:
        return (
            "–"
            if s is None
            else f"{s['from']:.4g} to {s['to']:.4g}, LLC {s['llc_from']:.4g} → {s['llc_to']:.4g}"
            + f" [{s['flagged']} flagged]" * bool(s["flagged"])
        )

    header = ["stage", "LLC", *(t["run"] for t in value["runs"])]
    return _grid(header, [[r["name"], r["llc"], *map(cell, r["runs"])] for r in value["stages"]])


def _differences(differences: Sequence[Mapping[str, Any]]) -> str:
    def cell(d: Mapping[str, Any]) -> str:
        text = f"{d['difference']:+.4g} ({d['ci95'][0]:+.4g} to {d['ci95'][1]:+.4g})"
        return text + flag_mark(d.get("flags", ()))

    rows = []
    for d in differences:
        against = f"{d['run']} − {d['reference']}"
        rows += [[against, label, cell(d[key])] for key, label in DIFFERENCES.items()]
        for number, s in enumerate(d["stages"], 1):
            what = f"shared stage {number} ({s['name']}, LLC {s['llc']})"
            if s["to_log10"]:
                rows.append([against, f"{what}: end (log10 step)", cell(s["to_log10"])])
            rows.append([against, f"{what}: LLC at its end", cell(s["llc_to"])])
    return _grid(["runs", "what", "difference"], rows)
