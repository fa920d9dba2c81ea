import json
from unittest.mock import ANY

import pytest
from stages.datasets import EVENTS, head_scores, llc_table

from devsort.cli import main
from devsort.errors import UserError
from devsort.sorting.run import open_run
from devsort.sorting.stages import table
from devsort.stages import load_stages, run_stages, stages_of_csv, step
from devsort.stages.detector import detect

STAGE_KEYS = {"name", "from", "to", "llc", "loss"}


@pytest.fixture
def measured_run(tiny_run, monkeypatch):
    """A run whose LLC table and head scores are known; only their readers are replaced."""
    import devsort.llc
    import devsort.sorting.heads

    store = {"llc": llc_table(), "heads": head_scores()}
    monkeypatch.setattr(devsort.llc, "load_llc", lambda run: store["llc"])
    monkeypatch.setattr(devsort.sorting.heads, "load_heads", lambda run: store["heads"])
    monkeypatch.setattr(devsort.sorting.heads, "events", lambda heads: EVENTS)
    return tiny_run, store


def test_the_json_of_a_run(measured_run):
    run, _ = measured_run
    value = run_stages(run)
    assert [round(b["step"], -1) for b in value["boundaries"]] == pytest.approx([30, 300], rel=0.15)
    assert all(b["ci95"][0] <= b["step"] <= b["ci95"][1] for b in value["boundaries"])
    assert [s["llc"] for s in value["stages"]] == ["flat", "rising", "falling"]
    assert [s["loss"] for s in value["stages"]] == ["flat", "falling", "flat"]
    assert [s["name"] for s in value["stages"]] == [
        "unnamed",
        "initial learning",
        "head specialization",
    ]
    assert all(s.keys() >= STAGE_KEYS for s in value["stages"])
    assert [
        a["to"] == b["from"] for a, b in zip(value["stages"], value["stages"][1:], strict=False)
    ] == [True, True]
    assert value["events"][0]["stage"] == "head specialization"
    assert value["events"][0]["boundary_distance_log10"] == pytest.approx(0.37, abs=0.05)
    assert load_stages(run) == value
    assert {**value, "checksum": ANY} == json.loads(run.stages.read_text())
    assert "initial learning" in table(value) and "split_onset at step 700: in stage 3" in table(
        value
    )


def test_done_work_is_kept_and_stale_work_redone(measured_run, monkeypatch):
    run, store = measured_run
    value, work = run_stages(run), []
    monkeypatch.setattr(step, "detect", lambda *args: work.append(1) or detect(*args))
    assert run_stages(run) == value and work == []
    assert run_stages(run, force=True) == value and len(work) == 1
    store["llc"] = llc_table(seed=1)
    with pytest.raises(UserError) as e:
        load_stages(run)
    assert str(e.value).endswith(
        f"was made from other inputs; run `devsort stages {run.path} --force` to make it again"
    )
    run_stages(run)
    assert len(work) == 2 and load_stages(run)["provenance"] != value["provenance"]


def test_a_number_that_is_edited_and_a_folder_that_is_renamed(measured_run):
    run, _ = measured_run
    value = run_stages(run)
    text = run.stages.read_text()
    run.stages.write_text(text.replace('"flagged": ', '"flagged": 1', 1))
    with pytest.raises(UserError) as e:
        load_stages(run)
    fix = f"run `devsort stages {run.path} --force` to make it again"
    assert str(e.value) == f"{run.stages} does not match its checksum; {fix}"
    assert run_stages(run) == value and run.stages.read_text() == text
    renamed = open_run(run.path.rename(run.path.with_name("renamed")))
    assert load_stages(renamed) == run_stages(renamed) == {**value, "run": str(renamed.path)}


def test_missing_and_foreign_stages_name_the_command(measured_run):
    run, _ = measured_run
    with pytest.raises(UserError) as e:
        load_stages(run)
    assert str(e.value) == f"{run.stages} is missing; run `devsort stages {run.path}` first"
    run.stages.write_text("{}")
    with pytest.raises(UserError) as e:
        load_stages(run)
    assert str(e.value).endswith(
        f"is not what devsort wrote; run `devsort stages {run.path} --force` to make it again"
    )


def test_a_csv_gets_stages_and_a_chart(tmp_path, capsys):
    one = llc_table().sel(restriction="full")
    path = tmp_path / "t.csv"
    lines = zip(
        one.checkpoint.values,
        one.llc.values,
        one.se.values,
        one.checkpoint_loss.values,
        strict=True,
    )
    path.write_text("step,llc,se,loss\n" + "\n".join(",".join(map(str, row)) for row in lines))
    assert len(stages_of_csv(path)["boundaries"]) == 2
    with pytest.raises(SystemExit) as e:
        main(
            [
                "stages",
                "--trajectory",
                str(path),
                "--out",
                str(tmp_path / "o"),
                "--json",
                "--set",
                "stages.bootstrap=30",
            ]
        )
    assert e.value.code == 0
    value = json.loads(capsys.readouterr().out)
    assert len(value["boundaries"]) == 2 and value["events"] == []
    assert sorted(p.name for p in (tmp_path / "o").iterdir()) == [
        "stages.json",
        "stages.png",
        "stages.svg",
    ]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["stages"], "stages needs either RUN or --trajectory FILE.csv; give one of them"),
        (
            ["stages", "--trajectory", "no.csv"],
            "no.csv is missing; give a CSV with the columns step, llc, se and optionally loss",
        ),
        (
            ["compare", "RUN"],
            "compare needs two or more different runs; name them, as in `devsort compare RUN RUN`",
        ),
        (
            ["compare", "RUN", "RUN"],
            "compare needs two or more different runs; name them, as in `devsort compare RUN RUN`",
        ),
    ],
)
def test_errors_of_the_commands(tiny_run, capsys, arguments, told):
    with pytest.raises(SystemExit) as e:
        main([str(tiny_run.path) if a == "RUN" else a for a in arguments])
    assert e.value.code == 2 and capsys.readouterr().err == f"devsort: error: {told}\n"
