"""The claims of arXiv 2501.18666, each with what is measured and the rule that decides.

The rules are in `verdicts`; claims about other networks and other data are in `variations`.

Groups are those of studies/paper.yaml. A network is *split* at a checkpoint if it is labelled
vocabulary-splitting and not overlapping, and *overlapping* the other way round; it is *specialised*
if it is labelled vocabulary-splitting or copy-suppression. Labels are those of docs/head-modes.md,
at the last checkpoint where none is named.
"""

from collections.abc import Iterable, Iterator
from itertools import product

import numpy as np
import pandas as pd

from devsort.errors import UserError
from devsort.sorting.claims.groups import OVERLAP, SPLIT, modes, of
from devsort.sorting.claims.variations import gap, heads, noise, variations
from devsort.sorting.claims.verdicts import SIGNIFICANT, Claim, majority, positive, three
from devsort.sorting.heads.events import EVENTS
from devsort.stages.link import Timeline, permutation_test

MAIN = ("decay", "no-decay")
STAGES = ["initial learning", "head overlapping", "head specialization"]
# standard errors by which a fall from the peak, the largest of many estimates, must exceed noise
BEYOND = 3.0
RISE = 0.1  # by which the split score must rise from the peak of the LLC to the end
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
        *gap(runs),
        *noise(runs),
        *suppression(ablations),
        *stages(runs),
    ]


def falls(runs: pd.DataFrame, points: pd.DataFrame) -> Iterator[Claim]:
    """(a) with decay the LLC falls as heads specialise."""
    claim = "With weight decay the LLC falls as heads specialise"
    group = of(runs, "decay")
    rise = [_split_rise(points, run) for run in group.itertuples()]
    fall = group.llc_fall > BEYOND * group.llc_fall_se
    fell = [f and r >= RISE for f, r in zip(fall, rise, strict=True)]
    mean = f"mean fall {_mean(group.llc_fall)} nats, mean rise of the split score {_mean(rise)}"
    below = f"share of seeds whose LLC ends {BEYOND:g} SE below its peak"
    measured = f"{below} while the split score rises by {RISE:g}"
    yield majority("a1", claim, measured, fell, mean if len(group) else "")
    falls = [_fall_after_onset(points, run) for run in group.itertuples()]
    after = [fall for fall in falls if fall is not None]
    onset = "fall of the LLC from the onset of splitting or suppression to the end"
    told = f"{len(after)} of {len(group)} seeds have an onset"
    yield positive("a2", claim, f"{onset}, share of its value at the onset", after, told)


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

    Within runs and between them.
    """
    claim = "Split networks have a lower LLC than overlapping ones of like loss"
    excess = "excess of the LLC of overlapping over split checkpoints of one run at like loss"
    for i, name in enumerate(MAIN, 1):
        group = of(points, name)
        within = [float(np.mean(d)) for _, run in group.groupby("cell") if (d := _excesses(run))]
        told = f"{len(within)} of {group.cell.nunique()} runs have such pairs"
        measured = f"{excess}, share of the former"
        yield positive(f"c{i}", f"{claim} ({name})", measured, within, told)
    last = points.loc[points.groupby("cell").step.idxmax()] if len(points) else points
    between = [d for name in MAIN for d in _excesses(of(last, name))]
    same = "the same between seeds of one group at the last checkpoint"
    yield positive("c3", f"{claim} (ends)", f"{same}, one value a split network", between)


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
        part = ablations[ablations.condition == condition] if len(ablations) else ablations
        values = (sign * part[column]).tolist() if len(part) else []
        yield positive(f"h{number}", f"{taken[condition]} {effect}", measured, values)


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


def _split_rise(points: pd.DataFrame, run: tuple) -> float:
    """Rise of the split score from the peak of the LLC to the last sampled checkpoint."""
    own = points[points.cell == run.cell].set_index("step").split_score
    return float(own.iloc[-1] - own.loc[run.llc_peak_step])


def _fall_after_onset(points: pd.DataFrame, run: tuple) -> float | None:
    """(LLC at the onset − LLC at the end) / LLC at the onset, over log step; None without one."""
    onset = np.nanmin([run.split_onset or np.nan, run.suppression_onset or np.nan, np.inf])
    own = points[(points.cell == run.cell) & points.llc.notna()]
    if not np.isfinite(onset) or own.empty:
        return None
    at = float(np.interp(np.log(onset), np.log(own.step), own.llc.astype(float)))
    return (at - float(own.llc.iloc[-1])) / at


def _excesses(points: pd.DataFrame) -> list[float]:
    """How far overlapping points of like loss lie above each split point, as a share of theirs.

    Split points without such a point are left out.
    """
    points = points[points.llc.notna()]
    labels = points.labels.str.split(";")
    split = points[[SPLIT in s and OVERLAP not in s for s in labels]]
    overlapping = points[[OVERLAP in s and SPLIT not in s for s in labels]]
    found = []
    for point in split.itertuples():
        near = overlapping.llc[np.abs(np.log(overlapping.loss / point.loss)) < LIKE]
        if len(near):
            found.append(float(1 - point.llc / near.mean()))
    return found


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


def _mean(values: Iterable[float]) -> str:
    return f"{np.mean(list(values)):.3g}"
