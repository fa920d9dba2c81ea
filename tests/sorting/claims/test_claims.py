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
from devsort.sorting.run import open_run
from devsort.storage.datasets import write_dataset

SCRIPT = Path(__file__).parents[3] / "analysis" / "paper_table.py"
SPLIT, SUPPRESSION, OVERLAP = "vocabulary-splitting", "copy-suppression", "overlapping"
STEPS = [10, 30, 100, 300, 1000, 3000]
STAGES = "initial learning;unnamed;head overlapping;head overlapping;head specialization"


def run(group: str, seed: int, **changed) -> dict:
    """A run as the paper tells it.

    It splits at step 300, where its LLC is highest, and has three stages.
    """
    heads, gap = changed.get("model.heads", 2), changed.get("task.mean_gap")
    return {
        "cell": f"{group}-seed{seed}-{len(changed)}-{heads}-{gap}", "group": group, "seed": seed,
        "model.heads": 2, "task.mean_gap": np.nan, "task.label_noise": 0.0, "error": None,
        "llc_peak": 900.0, "llc_peak_step": 300, "llc_fall": 300.0, "llc_fall_se": 10.0,
        "labels": SPLIT, "split_score": 0.8, "suppression_score": 0.1,
        "stages": 3, "stage_names": STAGES, "boundaries": "100;300",
        "window_from": 10.0, "window_to": 3000.0, "split_onset": 300.0,
        "suppression_onset": np.nan, "overlap_end": 100.0 + seed, "rank_drop": np.nan,
    } | changed  # fmt: skip


def trajectory(
    one: dict, llc=(50, 200, 900, 900, 700, 600), split=(0, 0, 0.1, 0.5, 0.7, 0.8)
) -> list[dict]:
    """Overlapping to step 100 and split from 300 on; losses are alike from 100 on."""
    labels = ["unformed", OVERLAP, OVERLAP, SPLIT, SPLIT, SPLIT]
    loss = [3.0, 1.0, 0.05, 0.05, 0.049, 0.048]
    names = ("step", "llc", "loss", "split_score", "labels")
    run = {"cell": one["cell"], "group": one["group"]}
    columns = zip(STEPS, map(float, llc), loss, split, labels, strict=True)
    return [run | dict(zip(names, values, strict=True)) for values in columns]


def as_the_paper_says() -> list[dict]:
    runs = [run(group, seed) for group in ("decay", "no-decay") for seed in range(16)]
    runs += [run(group, seed) for group in ("no-norm", "neither") for seed in range(4)]
    runs += [
        run("heads", s, **{"model.heads": h, "labels": "" if h == 1 else SPLIT})
        for h in (1, 3, 4)
        for s in range(4)
    ]
    small = {
        "task.mean_gap": 2.0,
        "labels": SUPPRESSION,
        "split_score": 0.1,
        "suppression_score": 0.9,
    }
    runs += [run("gap", s, **small) for s in range(4)] + [
        run("gap", s, **{"task.mean_gap": 5.4}) for s in range(4)
    ]
    return runs + [run("noise", s, **{"task.label_noise": 0.1}) for s in range(4)]


def ablated(runs: list[dict], sign: float = 1.0) -> pd.DataFrame:
    more = {"accuracy": -sign * 0.02, "confidence": sign * 0.05}
    return pd.DataFrame(
        {"cell": r["cell"], "condition": c, "loss": sign * (0.1 + 0.01 * r["seed"]), **more}
        for r in runs
        if r["group"] == "decay"
        for c in ("ablated", "rest")
    )


def decided(runs: list[dict], sign: float = 1.0, **shape) -> dict:
    points = pd.DataFrame([p for r in runs for p in trajectory(r, **shape)])
    return {c.key: c for c in claims(pd.DataFrame(runs), points, ablated(runs, sign))}


def test_a_study_that_agrees_with_the_paper():
    found = decided(as_the_paper_says())
    verdicts = {key: claim.verdict for key, claim in found.items()}
    assert verdicts.pop("c3") == "undecided"  # all are split at the end: nothing to compare
    assert set(verdicts.values()) == {"holds"}, verdicts
    assert {k[0] for k in found} == set("abcdefghi")
    assert found["a2"].estimate == pytest.approx(1 - 600 / 900)
    # split points at 900, 700, 600 against the one overlapping point of like loss at 900
    assert found["c1"].estimate == pytest.approx((0 + 200 / 900 + 300 / 900) / 3)
    assert found["b1"].n == 16 and found["e3"].n == 4 and found["f"].n == 24
    assert found["i3"].n == 32 and found["i3"].estimate == pytest.approx(
        np.mean(np.log10(1 + np.arange(16) / 100)) / 2
    )


def test_a_study_that_contradicts_the_paper():
    changed = {"labels": OVERLAP, "llc_fall": 5.0, "split_score": 0.1}
    changed |= {"stages": 6, "stage_names": "unnamed", "boundaries": "20;1000"}
    runs = [r | changed for r in as_the_paper_says()]
    found = decided(runs, sign=-1.0, llc=(50, 200, 300, 300, 700, 900))
    keys = ["a1", "a2", "b1", "b2", "c1", "c2", "d1", "d2", "e1", "e2", "e3", "e4", "f", "g1"]
    for key in [*keys, "h1", "h4", "i1", "i2"]:
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
    assert found["b2"].n == found["f"].n == found["g"].n == 0


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


def test_seeds_that_end_overlapping_are_compared_with_those_that_end_split():
    runs = [run(group, seed) for group in ("decay", "no-decay") for seed in range(8)]
    points = pd.DataFrame([p for r in runs for p in trajectory(r)])
    overlapping = points.cell.isin([r["cell"] for r in runs if r["seed"] % 2]) & (
        points.step == 3000
    )
    points.loc[overlapping, ["labels", "llc"]] = [OVERLAP, 800.0]
    found = {c.key: c for c in claims(pd.DataFrame(runs), points, pd.DataFrame())}
    assert (found["c3"].n, found["c3"].verdict) == (8, "holds")
    assert found["c3"].estimate == pytest.approx(1 - 600 / 800)


def test_gaps_that_change_the_scores_but_not_the_mode_fail_the_claim():
    runs = as_the_paper_says()
    runs = [r | {"labels": SPLIT} if r["group"] == "gap" else r for r in runs]
    assert decided(runs)["f"].verdict == "fails"


def test_a_tie_of_modes_at_one_gap_decides_nothing():
    runs = [
        r | {"labels": SPLIT} if r["group"] == "gap" and r["seed"] % 2 else r
        for r in as_the_paper_says()
    ]
    found = decided(runs)["f"]
    assert found.verdict == "undecided"
    assert f"δ̄ 2: {SUPPRESSION} or {SPLIT}" in found.detail


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
