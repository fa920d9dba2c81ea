"""What of a run is done, stale, broken or missing."""

import shutil

import pytest

from devsort.sorting.run import open_run
from devsort.sorting.stages import run_stages
from devsort.sorting.status import status, table
from devsort.sorting.train import train


def states(folder, *overrides: str) -> dict[str, str]:
    return {p["part"]: p["state"] for p in status(open_run(folder, overrides))["parts"]}


def detail(folder, part: str) -> str:
    return next(p["detail"] for p in status(open_run(folder))["parts"] if p["part"] == part)


ALL = ("checkpoints", "llc", "heads", "stages", "figures")


def test_a_finished_run_is_done(smoke):
    run = open_run(smoke.path)
    value = status(run)
    assert value["run"] == str(smoke.path) and [p["part"] for p in value["parts"]] == list(ALL)
    assert all(p["state"] == "done" for p in value["parts"])
    details = [p["detail"] for p in value["parts"]]
    assert details[:3] == ["16 steps", "6 checkpoints", "16 checkpoints"]
    lines = table(value).splitlines()
    assert details[4] == "8 files"
    assert len(lines) == 5 and lines[0].split() == ["checkpoints", "done", "16", "steps"]


def test_an_empty_run_misses_everything_and_says_what_to_do(tiny_run):
    assert states(tiny_run.path) == dict.fromkeys(ALL, "missing")
    assert detail(tiny_run.path, "checkpoints") == (
        f"{tiny_run.path} has no checkpoints yet; run `devsort train {tiny_run.path}` first"
    )


def cut_checkpoint(run):
    run.checkpoint(100).write_bytes(run.checkpoint(100).read_bytes()[:-5])


def lose_checkpoint(run):
    run.checkpoint(100).unlink()


DAMAGE = {
    "a checkpoint cut short": (cut_checkpoint, "checkpoints", "is cut short or damaged"),
    "a checkpoint lost": (lose_checkpoint, "checkpoints", "step-000000100.safetensors is missing"),
    "a broken llc store": (lambda run: (run.llc / "zarr.json").unlink(), "llc", "is damaged"),
    "a broken heads store": (lambda run: (run.heads / "zarr.json").unlink(), "heads", "damaged"),
    "stages cut short": (
        lambda run: run.stages.write_text('{"stages": ['),
        "stages",
        "is cut short or damaged",
    ),
}


@pytest.mark.parametrize("what", DAMAGE)
def test_damage_is_found_and_the_remedy_named(smoke, tmp_path, what):
    run = open_run(smoke.copy(tmp_path))
    damage, part, told = DAMAGE[what]
    damage(run)
    found = detail(run.path, part)
    assert states(run.path)[part] == "broken"
    assert told in found and "; run `devsort " in found


def test_what_another_config_made_is_stale(smoke, tmp_path):
    folder = smoke.copy(tmp_path)
    assert states(folder, "llc.sampler.lr=0.00002") == {
        "checkpoints": "done", "llc": "stale", "heads": "done", "stages": "stale",
        "figures": "stale",
    }  # fmt: skip
    assert states(folder, "train.lr=0.5") == dict.fromkeys(ALL, "stale")


def test_figures_of_other_results_are_stale_and_a_lost_one_is_missed(smoke, tmp_path):
    run = open_run(smoke.copy(tmp_path))
    fix = f"run `devsort chart {run.path}` to make it again"
    run_stages(open_run(run.path, ("stages.bootstrap=30",)))
    shown = run.figures / "made-from.json"
    found = {p["part"]: p for p in status(open_run(run.path, ("stages.bootstrap=30",)))["parts"]}[
        "figures"
    ]
    assert found["state"] == "stale"
    assert found["detail"] == f"{shown} was made from other inputs; {fix}"
    run_stages(open_run(run.path))
    assert states(run.path)["figures"] == "done"
    (run.figures / "stages.svg").unlink()
    assert detail(run.path, "figures") == f"{run.figures / 'stages.svg'} is missing; {fix}"


def test_a_half_trained_run_is_unfinished_and_nothing_is_written(tiny_run):
    train(tiny_run)
    tiny_run.checkpoint(20).unlink()
    before = sorted(tiny_run.path.rglob("*"))
    assert states(tiny_run.path)["checkpoints"] == "unfinished"
    told = f"{tiny_run.path} was trained to step 15 of 20; "
    assert detail(tiny_run.path, "checkpoints").startswith(told)
    assert sorted(tiny_run.path.rglob("*")) == before
    shutil.rmtree(tiny_run.checkpoints)
    assert states(tiny_run.path)["checkpoints"] == "missing"
