"""The paper's claims over many seeds: measurements with intervals, and the verdict on each claim.

devsort sweep studies/paper.yaml
python analysis/paper_table.py runs/paper
python analysis/paper_table.py runs/paper --claim c
python analysis/paper_table.py runs/paper --brief
python analysis/paper_table.py --plan studies/paper.yaml

The claims and their rules are in devsort/sorting/claims; docs/sweeps.md says when they were
written.

Writes NAME.md, NAME.csv and NAME.json, and with them the sweep's own tables as CSV and its study
file, so that the verdicts can be recomputed without the runs.
"""

import argparse
import json
from dataclasses import asdict
from pathlib import Path

import pandas as pd

from devsort import __version__
from devsort.sorting.claims.ablation import ablations
from devsort.sorting.claims.claims import claims
from devsort.sorting.claims.plan import planned
from devsort.sorting.claims.verdicts import Claim
from devsort.storage.files import write_atomic
from devsort.storage.objects import write_json
from devsort.sweep import load_table, load_trajectories
from devsort.sweep.study import read_study

COLUMNS = ("", "claim", "measured", "n", "estimate", "95 % interval", "verdict",
           "more", "again with")  # fmt: skip
BRIEF = COLUMNS[:-2]


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, nargs="?", help="folder of the sweep, as runs/paper")
    parser.add_argument("--plan", type=Path, help="a study file: print sample sizes and power")
    parser.add_argument("--claim", help="only the rows whose key starts with this")
    parser.add_argument(
        "--brief", action="store_true", help="leave out the last two columns on standard output"
    )
    parser.add_argument("--out", type=Path, default=Path("analysis/results"))
    parser.add_argument("--name", default="claims")
    arguments = parser.parse_args()
    if arguments.plan:
        print(plan(arguments.plan))
        return
    if arguments.folder is None:
        parser.error("give the folder of a sweep, or --plan STUDY")
    runs, points = load_table(arguments.folder), load_trajectories(arguments.folder)
    done = runs[runs.error.isna()]
    changes = pd.DataFrame(ablations([arguments.folder / cell for cell in done.cell]))
    rows = claims(runs, points, changes)
    chosen = [claim for claim in rows if claim.key.startswith(arguments.claim or "")]
    print(markdown(chosen, arguments.folder, BRIEF if arguments.brief else COLUMNS))
    if arguments.claim is None:
        save(arguments, rows, {"runs": runs, "trajectories": points, "ablations": changes})


def plan(study: Path) -> str:
    """Rule, number of runs and power of each claim, before anything has run."""
    rows = planned([(cell.group, cell.values) for cell in read_study(study).cells])
    lines = [f"| {key} | {rule} | {n} | {power:.2f} |" for key, rule, n, power in rows]
    return "\n".join(["| | rule | runs | power |", "| --- | --- | --- | --- |", *lines])


def save(arguments, verdicts: list[Claim], tables: dict[str, pd.DataFrame]) -> None:
    """Writes the claims and the tables that they were made from."""
    out, name = arguments.out, arguments.name
    runs = tables["runs"]
    versions = ", ".join(sorted(set(runs.devsort.dropna())))
    head = f"{len(runs)} runs of {arguments.folder}, devsort {versions}.\n\n"
    write_atomic(out / f"{name}.md", (head + markdown(verdicts, arguments.folder) + "\n").encode())
    rows = [asdict(claim) | {"command": command(claim, arguments.folder)} for claim in verdicts]
    write_json(
        out / f"{name}.json", {"devsort": __version__, "claims": json.loads(json.dumps(rows))}
    )
    frames = {name: pd.DataFrame(rows)} | {
        f"{name}-{part}": table for part, table in tables.items()
    }
    for part, table in frames.items():
        write_atomic(out / f"{part}.csv", table.to_csv(index=False).encode())
    write_atomic(out / f"{name}-study.yaml", (arguments.folder / "study.yaml").read_bytes())


def markdown(claims: list[Claim], folder: Path, columns: tuple[str, ...] = COLUMNS) -> str:
    rows = [
        columns,
        ["---"] * len(columns),
        *(cells(claim, folder)[: len(columns)] for claim in claims),
    ]
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def cells(claim: Claim, folder: Path) -> list[str]:
    estimate = "–" if claim.estimate is None else f"{claim.estimate:.3g}"
    interval = "–" if claim.ci95 is None else f"{claim.ci95[0]:.3g} to {claim.ci95[1]:.3g}"
    brief = [
        claim.key,
        claim.claim,
        claim.measured,
        str(claim.n),
        estimate,
        interval,
        f"**{claim.verdict}**" + (f", {claim.needed} would decide" if claim.needed else ""),
    ]
    return [*brief, claim.detail.replace("|", "/") or "–", f"`{command(claim, folder)}`"]


def command(claim: Claim, folder: Path) -> str:
    return f"python analysis/paper_table.py {folder} --claim {claim.key}"


if __name__ == "__main__":
    main()
