"""The claims of arXiv 2501.18666, each with what is measured and the rule that decides.

The rules are in `verdicts`; claims about other networks and other data are in `variations`.

Groups are those of studies/paper.yaml. A network is *split* at a checkpoint if it is labelled
vocabulary-splitting and not overlapping, and *overlapping* the other way round; it is *specialised*
if it is labelled vocabulary-splitting or copy-suppression. Labels are those of docs/head-modes.md,
at the last checkpoint where none is named.
"""

from collections.abc import Iterator
from itertools import product

import numpy as np
import pandas as pd

from devsort.errors import UserError
from devsort.sorting.claims.groups import OVERLAP, SPLIT, modes, of
from devsort.sorting.claims.movement import falls
from devsort.sorting.claims.origins import decay_and_suppression, initialisation
from devsort.sorting.claims.variations import gap, heads, noise, variations
from devsort.sorting.claims.verdicts import SIGNIFICANT, Claim, majority, positive, three
from devsort.sorting.heads.events import EVENTS
from devsort.stages.link import Timeline, permutation_test

MAIN = ("decay", "no-decay")
STAGES = ["initial learning", "head overlapping", "head specialization"]
TOGETHER = {"decay": "together", "no-decay": "together-no-decay"}  # networks made to overlap
LIKE = 0.1  # two losses are alike if their logarithms differ by less
CHANCE = 0.05  # p from which an association fails
EVENTS_NEEDED = 16  # for a permutation test that decides


def claims(runs: pd.DataFrame, points: pd.DataFrame, ablations: pd.DataFrame) -> list[Claim]:
    """All rows of the table.

    Args:
        runs: One row a run, see `devsort.sweep.load_table`; runs that failed are left out.
        points: One row a sampled checkpoint, see `load_trajectories`.
        ablations: One row a run and condition, for the head that suppresses most, see
            `ablation.ablations`.

    Raises:
        UserError: The LLCs of the runs are in different geometries.
    """
    runs = runs[runs.error.isna()]
    if "llc_geometry" in runs and runs.llc_geometry.dropna().nunique() > 1:
        fix = "make a study of each geometry"
        raise UserError("the LLCs of these runs are in different geometries", fix)
    return [
        *falls(runs, points),
        *splits(runs),
        *simpler(points),
        *variations(runs),
        *heads(runs),
        *gap(runs, points),
        *noise(runs),
        *suppression(ablations),
        *stages(runs),
        *decay_and_suppression(runs),
        *initialisation(runs),
    ]


def splits(runs: pd.DataFrame) -> Iterator[Claim]:
    """(b) vocabulary-splitting with and without decay."""
    measured = "share of seeds labelled vocabulary-splitting"
    for i, name in enumerate(MAIN, 1):
        group, how = of(runs, name), "with" if name == "decay" else "without"
        claim = f"Vocabulary-splitting appears {how} weight decay"
        hits = group.labels.map(lambda s: SPLIT in s.split(";"))
        yield majority(f"b{i}", claim, measured, hits, modes(group))


def simpler(points: pd.DataFrame) -> Iterator[Claim]:
    """(c) split networks have a lower LLC than overlapping ones of like loss.

    Within runs, and against networks made to overlap: heads that start equal stay equal.
    """
    claim = "Split networks have a lower LLC than overlapping ones of like loss"
    excess = "excess of the LLC of overlapping checkpoints over split ones, share of the former"
    for i, name in enumerate(MAIN, 1):
        group = of(points, name)
        within = [np.mean(d) for _, run in group.groupby("cell") if (d := excesses(run, run))]
        told = f"{len(within)} of {group.cell.nunique()} runs have such pairs"
        yield positive(f"c{i}", f"{claim} ({name})", f"{excess}, within a run", within, told)
    for i, name in enumerate(MAIN, 3):
        group, together = of(points, name), of(points, TOGETHER[name])
        beside = [np.mean(d) for _, run in group.groupby("cell") if (d := excesses(run, together))]
        told = f"{len(beside)} of {group.cell.nunique()} runs, {together.cell.nunique()} overlap"
        made = f"{claim} made so ({name})"
        yield positive(f"c{i}", made, f"{excess}, one value a split run", beside, told)


def suppression(ablations: pd.DataFrame) -> Iterator[Claim]:
    """(h) what suppressing heads are for."""
    taken = {"ablated": "Ablating a suppressing head", "rest": "Taking away its suppression alone"}
    effects = {
        "loss": ("raises the loss", "rise of the loss (nats), by run", 1),
        "accuracy": ("lowers the accuracy", "fall of the accuracy, by run", -1),
        "confidence": ("raises the confidence", "rise of the confidence, by run", 1),
    }
    for number, (condition, column) in enumerate(product(taken, effects), 1):
        effect, measured, sign = effects[column]
        values = _changes(ablations, condition, column, sign)
        yield positive(f"h{number}", f"{taken[condition]} {effect}", measured, values)
    parts = {
        "without_own": ("of the answer costs: without it the loss falls", "fall", -1),
        "without_competitors": ("of competitors serves: without it the loss rises", "rise", 1),
    }
    for number, (condition, (told, way, sign)) in enumerate(parts.items(), 7):
        values = _changes(ablations, condition, "loss", sign)
        yield positive(f"h{number}", f"Suppression {told}", f"{way} of the loss (nats)", values)


def _changes(ablations: pd.DataFrame, condition: str, column: str, sign: int) -> list[float]:
    """What a condition changes, one value a network that suppresses."""
    part = ablations[ablations.condition == condition] if len(ablations) else ablations
    return (sign * part[column]).tolist() if len(part) else []


def stages(runs: pd.DataFrame) -> Iterator[Claim]:
    """(i) how many stages, which, and whether head-mode events lie at their boundaries."""
    group = of(runs, "decay")
    step = np.exp(np.log(group.llc_peak_step).mean())
    told = f"geometric mean step of the LLC's peak {step:.0f}" if len(group) else ""
    claim, measured = "Training has three stages (decay)", "segments of the LLC trajectory"
    yield three("i1", claim, measured, group.stages.tolist(), told)
    named = [_named(s) == STAGES for s in group.stage_names]
    claim = f"They are {' → '.join(STAGES)} (decay)"
    yield majority("i2", claim, "share of seeds whose named stages are these", named)
    for i, name in enumerate(MAIN, 3):
        yield _linked(f"i{i}", name, of(runs, name))


def excesses(split: pd.DataFrame, overlapping: pd.DataFrame) -> list[float]:
    """How far overlapping points of like loss lie above each split point, as a share of theirs.

    Split points without such a point are left out.
    """
    split = split[_carrying(split, SPLIT, OVERLAP)]
    overlapping = overlapping[_carrying(overlapping, OVERLAP, SPLIT)]
    found = []
    for point in split.itertuples():
        near = overlapping.llc[np.abs(np.log(overlapping.loss / point.loss)) < LIKE]
        if len(near):
            found.append(float(1 - point.llc / near.mean()))
    return found


def _carrying(points: pd.DataFrame, label: str, other: str) -> np.ndarray:
    """Which points have an LLC, and one label without the other."""
    labels = points.labels.str.split(";")
    known = points.llc.notna()
    held = [label in carried and other not in carried for carried in labels]
    return np.array(held, bool) & known.to_numpy(bool)


def _named(names: str) -> list[str]:
    """The paper's names of the stages in order, without others and without repeats in a row."""
    found = [name for name in names.split(";") if name in STAGES]
    return [name for i, name in enumerate(found) if i == 0 or name != found[i - 1]]


def _linked(key: str, name: str, group: pd.DataFrame) -> Claim:
    """The permutation test of `stages.link` over the runs of a group."""
    rule = f"with {EVENTS_NEEDED} events or more, holds: p < {SIGNIFICANT}; fails: p ≥ {CHANCE}"
    claim = f"Head-mode events lie at stage boundaries ({name})"
    found = permutation_test([_timeline(run) for run in group.to_dict("records")])
    measured = "mean distance of an event to the nearest boundary, decades"
    if not found["events"]:
        return Claim(key, claim, measured, rule, 0)
    n, p, distance = found["events"], found["p"], found["mean_distance_log10"]
    verdict = "holds" if p < SIGNIFICANT else "fails" if p >= CHANCE else "undecided"
    verdict = verdict if n >= EVENTS_NEEDED else "undecided"
    told = f"{found['expected_log10']:.3f} by chance, p = {p:.2g}, {found['runs']} runs"
    return Claim(key, claim, measured, rule, n, distance, None, verdict, told)


def _timeline(run: dict) -> Timeline:
    boundaries = run["boundaries"] if isinstance(run["boundaries"], str) else ""
    cuts = [float(step) for step in boundaries.split(";") if step]
    events = [run[name] for name in EVENTS if pd.notna(run[name])]
    low, high = np.log10([run["window_from"], run["window_to"]])
    at, boundaries = (np.log10(steps or np.empty(0)) for steps in (events, cuts))
    return Timeline(at, boundaries, float(low), float(high))
