"""How often heads are labelled as suppressors: planted ones by ratio, and nulls.

python analysis/suppression_power.py planted split overlap noise-head
python analysis/suppression_power.py rotated trained --networks runs/paper/decay-seed*
python analysis/suppression_power.py rotated trained --networks runs/paper/no-decay* --as no-decay
python analysis/suppression_power.py all --report

A case is found if it is labelled copy-suppression. It passes the first half of the rule if a head
lowers a tenth of the numbers, whether or not that helps. Thresholds and the planted errors were
chosen on seed 0; results are for seed 1. Each kind is written to the JSON file as soon as it is
done.
"""

import argparse
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from devsort.rng import name_key, stream
from devsort.sorting import nulls, planted
from devsort.sorting.checkpoints import load_checkpoint, trained_steps
from devsort.sorting.config import HeadsConfig, ModelConfig, TaskConfig
from devsort.sorting.heads import measure
from devsort.sorting.heads.modes import LABELS, labels, strength
from devsort.sorting.heads.tables import group_sums, tables
from devsort.sorting.model import Params, infer_shape
from devsort.sorting.run import open_run
from devsort.sorting.task import eval_batch
from devsort.storage.objects import write_json

RATIOS = (0.05, 0.1, 0.12, 0.15, 0.2, 0.3, 0.4, 0.5)
NOISE = 0.005  # weight noise of planted suppressors and of other planted networks
LOUDEST = 0.05  # largest weight noise of planted splits and overlaps
SPLITS = ("split", "split-by-attention", "regions", "regions-by-attention", "eight")
CONFIG = HeadsConfig()
MODEL = ModelConfig()
FOUND = LABELS.index("copy-suppression")


def suppressor(ratio: float, task: TaskConfig, seed: int, index: int) -> Params:
    rng = stream(seed, "suppression-power", name_key(f"{ratio:g}"), index)
    plan = planted.draw_suppressor(ratio, task.numbers, rng)
    return planted.noisy(planted.network(plan, task, MODEL, rng), NOISE, rng)


def null(kind: str, task: TaskConfig, seed: int, index: int) -> Params:
    """A planted network that does not suppress: with weight noise, or with an added noise head."""
    rng = stream(seed, "suppression-nulls", name_key(kind), index)
    if kind == "noise-head":
        params, _ = planted.draw_network("single", task, MODEL, seed, index, NOISE)
        return nulls.with_noise_head(params, rng.uniform(0.3, 3), rng)
    of = SPLITS[index % len(SPLITS)] if kind == "split" else kind
    noise = NOISE * (LOUDEST / NOISE) ** rng.uniform()
    return planted.draw_network(of, task, MODEL, seed, index, noise)[0]


def rotations(folders: list[Path], seed: int, draws: int) -> Iterator[Params]:
    """`draws` trained networks with one head rotated; networks and heads take turns."""
    networks = [final(folder) for folder in folders]
    for index in range(draws):
        params = networks[index % len(networks)]
        head = index // len(networks) % len(params["blocks.0.attn.W_O"])
        yield nulls.rotated(params, head, stream(seed, "suppression-rotated", index))


def final(folder: Path) -> Params:
    run = open_run(folder)
    return load_checkpoint(run, trained_steps(run)[-1])


def judge(networks: Iterator[Params], task: TaskConfig) -> dict:
    """How many of some networks are found, and how many pass the first half of the rule."""
    batch = eval_batch(task)
    found, lowered, z = [], [], []
    for params in networks:
        answers = measure(params, infer_shape(params, task.list_length, task.numbers), batch)
        table = tables(*group_sums(answers, task.numbers))
        one = strength(table, CONFIG)
        enough = one["lowered_share"] >= CONFIG.extent
        found.append(bool(labels(table, CONFIG)[FOUND]))
        lowered.append(bool(enough.any()))
        z += one["suppression_z"][enough].tolist()
    return {
        "cases": len(found),
        "found": sum(found),
        "lower": sum(lowered),
        "z_of_those": [float(q) for q in np.quantile(z, [0, 0.5, 1])] if z else None,
    }


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    kinds = "planted split overlap noise-head rotated trained, or all"
    parser.add_argument("kinds", nargs="+", help=kinds)
    parser.add_argument("--networks", type=Path, nargs="*", default=[])
    parser.add_argument("--as", dest="name", default="decay", help="name of these networks")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--draws", type=int, default=200)
    parser.add_argument("--lists", type=int, default=CONFIG.lists)
    parser.add_argument("--ratios", type=float, nargs="*", default=RATIOS)
    parser.add_argument("--out", type=Path, default=Path("analysis/results/suppression.json"))
    parser.add_argument("--report", action="store_true", help="only print what is stored")
    arguments = parser.parse_args()
    if not arguments.report:
        for name, networks in cases(arguments):
            store(arguments, name, judge(networks, TaskConfig(eval_lists=arguments.lists)))
    report(json.loads(arguments.out.read_text()))


def cases(arguments) -> Iterator[tuple[str, Iterator[Params]]]:
    task, seed, many = TaskConfig(), arguments.seed, range(arguments.draws)
    kinds = arguments.kinds
    if "planted" in kinds or "all" in kinds:
        for ratio in arguments.ratios:
            yield f"planted {ratio:g}", (suppressor(ratio, task, seed, i) for i in many)
    for kind in ("split", "overlap", "noise-head"):
        if kind in kinds or "all" in kinds:
            yield kind, (null(kind, task, seed, i) for i in many)
    if arguments.networks and ("rotated" in kinds or "all" in kinds):
        networks = rotations(arguments.networks, seed, arguments.draws)
        yield f"rotated {arguments.name}", networks
    if arguments.networks and ("trained" in kinds or "all" in kinds):
        yield f"trained {arguments.name}", (final(folder) for folder in arguments.networks)


def store(arguments, name: str, result: dict) -> None:
    stored = json.loads(arguments.out.read_text()) if arguments.out.exists() else {}
    sample = {"seed": arguments.seed, "lists": arguments.lists}
    if name.startswith(("rotated", "trained")):
        sample["networks"] = [folder.name for folder in arguments.networks]
    write_json(arguments.out, stored | {name: result | sample})


def report(stored: dict) -> None:
    print(
        f"{'kind':22}{'cases':>7}{'found':>7}{'share':>8}{'lower':>7}   z of those: least to most"
    )
    for name, one in sorted(stored.items()):
        z = "–" if one["z_of_those"] is None else "{:+.1f} {:+.1f} {:+.1f}".format(
            *one["z_of_those"]
        )  # fmt: skip
        share = one["found"] / one["cases"]
        print(f"{name:22}{one['cases']:7d}{one['found']:7d}{share:8.1%}{one['lower']:7d}   {z}")


if __name__ == "__main__":
    main()
