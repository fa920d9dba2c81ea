"""The claims of arXiv 2501.18666, each with what is measured and the rule that decides it.

The rules are in `verdicts`; claims about other networks and other data are in `variations`.

Groups are those of studies/paper.yaml. A network is *split* at a checkpoint if it is labelled
vocabulary-splitting, and *overlapping* if it is labelled overlapping and not vocabulary-splitting;
it is *specialised* if it is labelled vocabulary-splitting or copy-suppression. The labels are
defined in docs/head-modes.md; they are those of the last checkpoint unless another is named.
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
LIKE = 0.1  # two losses are similar if their logarithms differ by less
CHANCE = 0.05  # lowest p at which an association fails
EVENTS_NEEDED = 16  # fewest events for a permutation test to decide


def claims(runs: pd.DataFrame, points: pd.DataFrame, ablations: pd.DataFrame) -> list[Claim]:
    """All rows of the table.

    Args:
        runs: One row per run, see `devsort.sweep.load_table`; runs that failed are left out.
        points: One row per sampled checkpoint, see `load_trajectories`.
        ablations: One row per run and condition, for the head that suppresses most, see
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
    """(c) split networks have a lower LLC than overlapping ones of similar loss.

    Overlapping networks are those of the same run, or networks made to overlap, whose heads start
    equal and stay equal. Within a run, a split checkpoint must not overlap as well. Without decay
    no network is split without overlapping, so only networks made to overlap are compared there.
    """
    claim = "Split networks have a lower LLC than overlapping ones of similar loss"
    excess = "excess of the LLC of overlapping checkpoints over split ones, share of the former"
    group = of(points, "decay")
    alone = group[~_has(group, OVERLAP) | ~_has(group, SPLIT)]
    within = [np.mean(d) for _, run in alone.groupby("cell") if (d := excesses(run, run))]
    detail = f"{len(within)} of {group.cell.nunique()} runs have such pairs"
    yield positive("c1", f"{claim} (decay)", f"{excess}, within a run", within, detail)
    for i, name in enumerate(MAIN, 2):
        group, together = of(points, name), of(points, TOGETHER[name])
        values = [np.mean(d) for _, run in group.groupby("cell") if (d := excesses(run, together))]
        detail = f"{len(values)} of {group.cell.nunique()} runs, {together.cell.nunique()} overlap"
        forced = f"{claim}, made to overlap ({name})"
        yield positive(f"c{i}", forced, f"{excess}, one value per split run", values, detail)


def suppression(ablations: pd.DataFrame) -> Iterator[Claim]:
    """(h) what suppressing heads are for."""
    removal = {"ablated": "Ablating a suppressing head", "rest": "Removing only its suppression"}
    effects = {
        "loss": ("raises the loss", "rise of the loss (nats), by run", 1),
        "accuracy": ("lowers the accuracy", "fall of the accuracy, by run", -1),
        "confidence": ("raises the confidence", "rise of the confidence, by run", 1),
    }
    for number, (condition, column) in enumerate(product(removal, effects), 1):
        effect, measured, sign = effects[column]
        values = _changes(ablations, condition, column, sign)
        yield positive(f"h{number}", f"{removal[condition]} {effect}", measured, values)
    parts = {
        "without_own": ("of the answer harms: without it the loss falls", "fall", -1),
        "without_competitors": ("of competitors helps: without it the loss rises", "rise", 1),
    }
    for number, (condition, (effect, change, sign)) in enumerate(parts.items(), 7):
        values = _changes(ablations, condition, "loss", sign)
        yield positive(
            f"h{number}", f"Suppression {effect}", f"{change} of the loss (nats)", values
        )


def _changes(ablations: pd.DataFrame, condition: str, column: str, sign: int) -> list[float]:
    """What a condition changes, one value per network that suppresses."""
    part = ablations[ablations.condition == condition] if len(ablations) else ablations
    return (sign * part[column]).tolist() if len(part) else []


def stages(runs: pd.DataFrame) -> Iterator[Claim]:
    """(i) how many stages, which, and whether head-mode events lie at their boundaries."""
    group = of(runs, "decay")
    step = np.exp(np.log(group.llc_peak_step).mean())
    detail = f"geometric mean step of the LLC's peak {step:.0f}" if len(group) else ""
    claim, measured = "Training has three stages (decay)", "segments of the LLC trajectory"
    yield three("i1", claim, measured, group.stages.tolist(), detail)
    hits = [_named(s) == STAGES for s in group.stage_names]
    claim = f"They are {' → '.join(STAGES)} (decay)"
    yield majority("i2", claim, "share of seeds whose named stages are these", hits)
    for i, name in enumerate(MAIN, 3):
        yield _linked(f"i{i}", name, of(runs, name))


def excesses(split: pd.DataFrame, overlapping: pd.DataFrame) -> list[float]:
    """How far the LLC of overlapping points of similar loss lies above that of each split point.

    Each excess is a share of the overlapping points' mean LLC. Split points without an overlapping
    point of similar loss are left out.
    """
    split = split[_has(split, SPLIT) & split.llc.notna()]
    overlapping = overlapping[
        _has(overlapping, OVERLAP) & ~_has(overlapping, SPLIT) & overlapping.llc.notna()
    ]
    shares = []
    for point in split.itertuples():
        near = overlapping.llc[np.abs(np.log(overlapping.loss / point.loss)) < LIKE]
        if len(near):
            shares.append(float(1 - point.llc / near.mean()))
    return shares


def _has(points: pd.DataFrame, label: str) -> np.ndarray:
    """Which points have a label."""
    return np.array([label in own for own in points.labels.str.split(";")], bool)


def _named(names: str) -> list[str]:
    """The paper's names among the stages, in order; a name that follows itself counts once."""
    own = [name for name in names.split(";") if name in STAGES]
    return [name for i, name in enumerate(own) if i == 0 or name != own[i - 1]]


def _linked(key: str, name: str, group: pd.DataFrame) -> Claim:
    """The permutation test of `stages.link` over the runs of a group."""
    rule = f"with {EVENTS_NEEDED} events or more, holds: p < {SIGNIFICANT}; fails: p ≥ {CHANCE}"
    claim = f"Head-mode events lie at stage boundaries ({name})"
    test = permutation_test([_timeline(run) for run in group.to_dict("records")])
    measured = "mean distance of an event to the nearest boundary, decades"
    if not test["events"]:
        return Claim(key, claim, measured, rule, 0)
    n, p, distance = test["events"], test["p"], test["mean_distance_log10"]
    verdict = "holds" if p < SIGNIFICANT else "fails" if p >= CHANCE else "undecided"
    verdict = verdict if n >= EVENTS_NEEDED else "undecided"
    detail = f"{test['expected_log10']:.3f} by chance, p = {p:.2g}, {test['runs']} runs"
    return Claim(key, claim, measured, rule, n, distance, None, verdict, detail)


def _timeline(run: dict) -> Timeline:
    boundaries = run["boundaries"] if isinstance(run["boundaries"], str) else ""
    cuts = [float(step) for step in boundaries.split(";") if step]
    events = [run[name] for name in EVENTS if pd.notna(run[name])]
    low, high = np.log10([run["window_from"], run["window_to"]])
    at, boundaries = (np.log10(steps or np.empty(0)) for steps in (events, cuts))
    return Timeline(at, boundaries, float(low), float(high))
