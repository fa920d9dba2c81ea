r"""All shifts of a study of patterning, and whether each moves its target as wanted.

python analysis/patterning.py studies/patterning.yaml --json analysis/results/patterning.json

A row that the JSON file has is not run again; `--most N` runs at most N rows.
"""

import argparse
import json
from pathlib import Path

import numpy as np

from devsort.sorting.patterning.step import Pattern, run_pattern
from devsort.sorting.run import open_run
from devsort.storage.objects import write_json
from devsort.storage.yaml_files import read_yaml


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("study", type=Path)
    parser.add_argument("--json", type=Path, required=True)
    parser.add_argument("--most", type=int)
    args = parser.parse_args()
    study = read_yaml(args.study)
    found = json.loads(args.json.read_text()) if args.json.exists() else {}
    wanted = {name(row): Pattern(**study["shift"], **row) for row in study["rows"]}
    left = [key for key in wanted if key not in found]
    for key in left[: args.most]:
        run = open_run(args.study.parent / study["run"], tuple(study["set"]))
        found[key] = run_pattern(run, wanted[key]) | {"run": run.path.name}
        write_json(args.json, found)
    print(table({key: found[key] for key in wanted if key in found}))


def name(row):
    return row["target"] + (f" from {row['begin']}" if "begin" in row else "")


def table(found):
    """Changes relative to training without a shift: mean, standard error and counts over seeds."""
    head = ("shift", "predicted in equilibrium", "with the shift", "as wanted",
            "random shifts", "as wanted", "with, less random")  # fmt: skip
    lines = [head, ["---"] * len(head)]
    for key, value in found.items():
        arms = {a: np.array([r[a] for r in value["rows"]]) for a in ("without", "with", "random")}
        told = [told_of(arms[a] - arms["without"]) for a in ("with", "random")]
        moved = [f"{value['moved'][a]} of {len(value['rows'])}" for a in ("with", "random")]
        apart = told_of(arms["with"] - arms["random"])
        predicted = f"{value['predicted']:+.4f}"
        lines.append([key, predicted, told[0], moved[0], told[1], moved[1], apart])
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def told_of(change):
    return f"{change.mean():+.4f} ± {change.std(ddof=1) / np.sqrt(len(change)):.4f}"


if __name__ == "__main__":
    main()
