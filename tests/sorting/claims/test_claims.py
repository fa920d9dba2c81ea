"""The claims on made-up tables whose verdicts are known, and the script on a real small sweep."""

import json
import runpy
import shutil
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sweeps import sweep_here, write_study

from devsort.errors import UserError
from devsort.sorting.artifacts import HEADS
from devsort.sorting.claims.ablation import ablations
from devsort.sorting.claims.claims import claims
from devsort.sorting.claims.movement import follow, later_peak
from devsort.sorting.claims.origins import agreement
from devsort.sorting.claims.variations import like_loss
from devsort.sorting.run import open_run
from devsort.storage.datasets import write_dataset

SCRIPT = Path(__file__).parents[3] / "analysis" / "paper_table.py"
SPLIT, SUPPRESSION, OVERLAP = "vocabulary-splitting", "copy-suppression", "overlapping"
BOTH = f"{SPLIT};{SUPPRESSION}"
MADE = ("together", "together-no-decay")  # to overlap
STEPS = [10, 30, 100, 300, 1000, 3000]
STAGES = "initial learning;unnamed;head overlapping;head overlapping;head specialization"


def run(group: str, seed: int, **changed) -> dict:
    """A run as the paper tells it.

    It splits at step 300, where its LLC is highest, and has three stages.
    """
    values = "-".join(
        str(changed[key]) for key in sorted(changed) if key.startswith(("task", "model"))
    )
    return {
        "cell": f"{group}-seed{seed}{values}", "group": group, "seed": seed,
        "model.heads": 2, "task.mean_gap": np.nan, "task.label_noise": 0.0, "error": None,
        "llc_peak": 900.0, "llc_peak_step": 300, "llc_fall": 300.0, "llc_fall_se": 10.0,
        "labels": BOTH if group in ("decay", "challenge", "data") else SPLIT,
        "split_score": 0.8, "suppression_score": 0.1,
        "owners": ";".join("01" * 20) if group != "weights" else ";".join("0" * 20 + "1" * 20),
        "stages": 3, "stage_names": STAGES, "boundaries": "100;300",
        "window_from": 10.0, "window_to": 3000.0, "split_onset": 300.0,
        "suppression_onset": np.nan, "overlap_end": 100.0 + seed, "rank_drop": np.nan,
    } | changed  # fmt: skip


def trajectory(
    one: dict, llc=(50, 200, 900, 900, 700, 600), split=(0, 0, 0.1, 0.1, 0.5, 0.8)
) -> list[dict]:
    """Overlapping to step 100 and split from 300 on; losses are alike from 100 on."""
    labels = ["unformed", OVERLAP, OVERLAP, SPLIT, SPLIT, SPLIT]
    if one["group"].startswith("together"):
        labels, llc = ["unformed"] + 5 * [OVERLAP], [v * 1.2 for v in llc]
    split = [x if one["split_score"] > 0.5 else 1 - x for x in split]
    columns = {
        "step": STEPS,
        "llc": [float(v) for v in llc],
        "loss": [3.0, 1.0, 0.05, 0.05, 0.05, 0.05],
        "split_score": split,
        "suppression_score": [x / 2 for x in split],
        "overlap_score": [1 - x for x in split],
        "residual_rank": [60 - 20 * x for x in split],
        "labels": labels,
    }
    rows = zip(*columns.values(), strict=True)
    own = {"cell": one["cell"], "group": one["group"]}
    return [own | dict(zip(columns, row, strict=True)) for row in rows]


def as_the_paper_says() -> list[dict]:
    runs = [run(group, seed) for group in ("decay", "no-decay") for seed in range(16)]
    few = ("no-norm", "neither", "challenge")
    runs += [run(group, seed) for group in few for seed in range(4)]
    runs += [run(group, seed, labels=OVERLAP) for group in MADE for seed in range(8)]
    runs += [run(group, seed) for group in ("weights", "data") for seed in range(1, 9)]
    runs += [
        run("heads", s, **{"model.heads": h, "labels": "" if h == 1 else SPLIT})
        for h in (1, 3, 4)
        for s in range(4)
    ]
    suppressing = {"labels": SUPPRESSION, "split_score": 0.1, "suppression_score": 0.9}
    ways = {"gap": "task.mean_gap", "length": "task.list_length", "range": "task.numbers"}
    ends = {"gap": (2.0, 5.4), "length": (20, 5), "range": (31, 101)}
    for name, key in ways.items():
        low, high = ends[name]
        runs += [run(name, s, **{key: low, **suppressing}) for s in range(4)]
        runs += [run(name, s, **{key: high, "labels": SPLIT}) for s in range(4)]
    levels = {"noise": (0.1,), "more-noise": (0.05, 0.2)}
    return runs + [
        run(name, s, **{"task.label_noise": level})
        for name, group in levels.items()
        for level in group
        for s in range(4)
    ]


def ablated(runs: list[dict], sign: float = 1.0) -> pd.DataFrame:
    more = {"accuracy": -sign * 0.02, "confidence": sign * 0.05}
    ways = {"ablated": 1, "rest": 1, "without_own": -1, "without_competitors": 1}
    return pd.DataFrame(
        {"cell": r["cell"], "condition": c, "loss": way * sign * (0.1 + 0.01 * r["seed"]), **more}
        for r in runs
        if r["group"] == "decay"
        for c, way in ways.items()
    )


def decided(runs: list[dict], sign: float = 1.0, **shape) -> dict:
    points = pd.DataFrame([p for r in runs for p in trajectory(r, **shape)])
    return {c.key: c for c in claims(pd.DataFrame(runs), points, ablated(runs, sign))}


def test_a_study_that_agrees_with_the_paper():
    found = decided(as_the_paper_says())
    verdicts = {key: claim.verdict for key, claim in found.items()}
    assert verdicts.pop("j2") == "fails"  # suppression without decay
    assert set(verdicts.values()) == {"holds"}, verdicts
    assert {k[0] for k in found} == set("abcdefghijk")
    assert all(claim.needed is None for claim in found.values())
    assert found["a2"].estimate > 0.9 and found["a2"].detail.startswith("lag 0.0")
    # split points at 900, 700, 600 against the one overlapping point of similar loss at 900
    assert found["c1"].estimate == pytest.approx((0 + 200 / 900 + 300 / 900) / 3)
    mean = np.mean([900, 900, 700, 600]) * 1.2
    assert found["c2"].estimate == pytest.approx(np.mean(1 - np.array([900, 700, 600]) / mean))
    assert found["b1"].n == 16 and found["e3"].n == 4 and found["f1"].n == 24
    assert found["i3"].n == 32 and found["i3"].estimate == pytest.approx(
        np.mean(np.log10(1 + np.arange(16) / 100)) / 2
    )
    assert found["k"].estimate == pytest.approx(1)  # kappa 1 with the same weights, 0 without
    assert found["k"].detail == "same weights 1.00, same data 0.00, neither 1.00"


def test_a_study_that_contradicts_the_paper():
    changed = {"labels": OVERLAP, "llc_fall": 5.0, "split_score": 0.1, "owners": "0;1"}
    changed |= {"stages": 6, "stage_names": "unnamed", "boundaries": "20;1000"}
    runs = [r | changed for r in as_the_paper_says()]
    found = decided(runs, sign=-1.0)
    keys = ["a1", "a2", "a3", "a4", "a5", "b1", "b2", "d1", "d2", "e1", "e2", "e3", "e4", "f1"]
    for key in [*keys, "g1", "g2", "g3", "h1", "h4", "h7", "h8", "i1", "i2", "j1"]:
        assert found[key].verdict == "fails", key
    assert found["i3"].verdict == "fails" and "by chance, p = " in found["i3"].detail


def test_a_study_half_of_whose_seeds_agree_decides_nothing():
    runs = [
        r | ({"labels": OVERLAP, "llc_fall": 0.0} if r["seed"] % 2 else {})
        for r in as_the_paper_says()
    ]
    found = decided(runs)
    assert {found[key].verdict for key in ("a1", "b1", "b2", "d1", "e2", "e3")} == {"undecided"}


def test_too_few_runs_decide_nothing_and_an_empty_group_says_so():
    found = decided([run("decay", 0), run("decay", 1)])
    assert {c.verdict for c in found.values()} == {"undecided"}
    assert found["b2"].n == found["f1"].n == found["g"].n == found["k"].n == 0
    assert found["b1"].needed == 4  # two of two hold; four of four would decide


def test_failed_runs_do_not_count():
    runs = as_the_paper_says()
    runs[0] |= {"error": "training diverged", "labels": None}
    assert decided(runs)["b1"].n == 15


def test_networks_of_unlike_loss_are_not_compared():
    runs = [run("decay", seed) for seed in range(16)]
    points = pd.DataFrame([p for r in runs for p in trajectory(r)])
    points.loc[points.step == 100, "loss"] = 0.06  # ln(0.06 / 0.05) = 0.18
    found = {c.key: c for c in claims(pd.DataFrame(runs), points, pd.DataFrame())}
    assert (found["c1"].n, found["c1"].detail) == (0, "0 of 16 runs have such pairs")


def test_networks_that_split_and_overlap_are_compared_with_those_made_to_overlap_alone():
    """Without decay all networks overlap as well."""
    runs = [run(group, s) for group in ("decay", "no-decay", *MADE) for s in range(8)]
    points = pd.DataFrame([p for r in runs for p in trajectory(r)])
    both = points.group.isin(("decay", "no-decay")) & (points.labels == SPLIT)
    points.loc[both, "labels"] = f"{OVERLAP};{SPLIT}"
    found = {c.key: c for c in claims(pd.DataFrame(runs), points, pd.DataFrame())}
    assert found["c1"].n == 0
    assert found["c2"].n == found["c3"].n == 8 and found["c3"].verdict == "holds"


def test_modes_are_compared_where_the_loss_is_the_same():
    runs = pd.DataFrame([run("decay", 0), run("gap", 1)])
    points = pd.DataFrame([p for r in runs.to_dict("records") for p in trajectory(r)])
    points.loc[points.cell == runs.cell[0], "loss"] = [3, 1, 0.5, 0.2, 0.1, 0.01]
    level, score = like_loss(runs, points)
    assert level == 0.05
    assert score.tolist() == pytest.approx([0.8 - 0.4, 0.1 - 0.05])  # at the end, and at step 100


@pytest.mark.parametrize("late", [-0.3, 0.0, 0.3])
def test_the_lag_is_found(late):
    """The split follows the fall of the LLC by so many decades."""
    x = np.linspace(1, 4, 40)
    llc = 200 - 100 / (1 + np.exp(-8 * (x - 2.5)))
    split = 1 / (1 + np.exp(-8 * (x - 2.5 - late)))
    own = pd.DataFrame({"step": 10**x, "llc": llc, "split_score": split})
    still, lag = follow(own, "split_score", 1)
    assert lag == pytest.approx(late, abs=0.051)
    assert (still > 0.95) == (late == 0)
    assert follow(own.assign(split_score=0.5), "split_score", 1) is None


@pytest.mark.parametrize("late", [-0.2, 0.0])
def test_an_order_parameter_of_the_second_fall(late):
    """The LLC falls, rises and falls again; the split goes with the second fall alone."""
    x = np.linspace(1, 4, 60)
    step = lambda at: 1 / (1 + np.exp(-12 * (x - at)))  # noqa: E731
    llc = 200 - 60 * step(1.6) + 40 * step(2.4) - 80 * step(3.3)
    own = pd.DataFrame({"step": 10**x, "llc": llc, "split_score": step(3.3 + late)})
    assert x[later_peak(llc)] == pytest.approx(2.8, abs=0.1)
    still, lag = follow(own, "split_score", 1, later_peak)
    assert lag == pytest.approx(late, abs=0.051)
    assert (still > 0.95) == (late == 0)


def test_without_a_rise_there_is_no_later_fall():
    falling = np.array([1.0, 9.0, 7.0, 4.0, 2.0])
    assert later_peak(falling) == later_peak(falling[:2]) + 3 == 4
    assert later_peak(np.array([1.0, 9.0, 4.0, 6.0, 2.0])) == 3
    own = pd.DataFrame({"step": [1, 10, 30, 60, 100], "llc": falling, "split_score": falling})
    assert follow(own, "split_score", 1, later_peak) is None


def test_gaps_that_change_the_scores_but_not_the_mode_fail_the_claim():
    runs = as_the_paper_says()
    runs = [r | {"labels": BOTH} if r["group"] == "gap" else r for r in runs]
    assert decided(runs)["f1"].verdict == "fails"


def test_a_tie_of_modes_at_one_gap_decides_nothing():
    runs = [
        r | {"labels": BOTH} if r["group"] == "gap" and r["seed"] % 2 else r
        for r in as_the_paper_says()
    ]
    found = decided(runs)["f1"]
    assert found.verdict == "undecided"
    assert f"δ̄ 2: {SUPPRESSION} or {BOTH}" in found.detail


def test_agreement_of_owners_is_kappa():
    a = np.array([0, 0, 1, 1])
    assert agreement(a, a) == 1 and agreement(a, 1 - a) == -1
    assert agreement(a, np.array([0, 1, 0, 1])) == 0
    assert agreement(np.zeros(4), np.zeros(4)) == 0


@pytest.fixture(scope="module")
def swept(tmp_path_factory):
    """A sweep of four small cells with the groups of the study."""
    folder = tmp_path_factory.mktemp("claims")
    groups = {"decay": {"grid": {"seed": [0, 1]}}, "gap": {"grid": {"task.mean_gap": [1.5, 2.5]}}}
    path = write_study(folder, groups=groups)
    assert sweep_here(path, "--out", folder / "out").code == 0
    return folder / "out"


def table_of(folder: Path, *arguments: str, monkeypatch) -> None:
    monkeypatch.setattr(sys, "argv", ["paper_table.py", str(folder), *arguments])
    runpy.run_path(str(SCRIPT), run_name="__main__")


def test_the_script_writes_the_table_and_what_it_was_made_from(
    swept, tmp_path, monkeypatch, capsys
):
    table_of(swept, "--out", str(tmp_path), monkeypatch=monkeypatch)
    printed = capsys.readouterr().out
    rows = [line for line in printed.splitlines() if line.startswith("| ")][2:]
    found = json.loads((tmp_path / "claims.json").read_text())["claims"]
    assert len(rows) == len(found) and {r["verdict"] for r in found} == {"undecided"}
    assert printed.strip() in (tmp_path / "claims.md").read_text()
    assert found[0]["command"] == f"python analysis/paper_table.py {swept} --claim a1"
    names = {"claims.md", "claims.json", "claims.csv", "claims-study.yaml"}
    assert names <= {p.name for p in tmp_path.iterdir()}
    kept = pd.read_csv(tmp_path / "claims-runs.csv")
    assert kept.cell.tolist() == [
        "decay-seed0",
        "decay-seed1",
        "gap-mean_gap1.5",
        "gap-mean_gap2.5",
    ]


def test_one_claim_is_printed_and_nothing_written(swept, tmp_path, monkeypatch, capsys):
    table_of(swept, "--claim", "b", "--out", str(tmp_path), monkeypatch=monkeypatch)
    assert [line.split(" | ")[0] for line in capsys.readouterr().out.splitlines()[2:]] == [
        "| b1",
        "| b2",
    ]
    assert not list(tmp_path.iterdir())


def test_ablations_take_the_head_that_suppresses_most(swept, tmp_path):
    """Heads that suppress are planted in heads.zarr: tiny networks have none."""
    folder = swept / "decay-seed0"
    assert list(ablations([folder])) == []
    run = open_run(shutil.copytree(folder, tmp_path / "planted"))
    heads = run.read(HEADS)
    told = {"copier": 0, "ratio": 0.2, "changes": {"ablated": {"loss": 1.0}, "rest": {"loss": 0.5}}}
    found = json.dumps([{"head": 1, "share": 0.1, **told}, {"head": 2, "share": 0.3, **told}])
    attrs = {"events": heads.attrs["events"], "suppressors": found}
    write_dataset(run.heads, heads.drop_attrs().assign_attrs(attrs), run.origin(HEADS))
    rows = list(ablations([run.path]))
    kinds = [("planted", 2, 0.3, "ablated", 1.0), ("planted", 2, 0.3, "rest", 0.5)]
    assert [
        tuple(r[k] for k in ("cell", "head", "share", "condition", "loss")) for r in rows
    ] == kinds


def test_runs_in_two_geometries_are_not_judged_together():
    geometries = ("relative", "absolute")
    rows = [run("decay", i, llc_geometry=geometry) for i, geometry in enumerate(geometries)]
    expected = "^the LLCs of these runs are in different geometries; make a study of each geometry$"
    with pytest.raises(UserError, match=expected):
        claims(pd.DataFrame(rows), pd.DataFrame(), pd.DataFrame())
