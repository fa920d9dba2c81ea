"""What is reported of a planted suppressor: its numbers, its copier, its ratio, what it does."""

import pytest
from commands import devsort
from safetensors.torch import save_file

from devsort.rng import stream
from devsort.sorting import planted
from devsort.sorting.config import HeadsConfig, ModelConfig, TaskConfig
from devsort.sorting.heads import analyse, dataset
from devsort.sorting.heads.suppressors import CHANGES, suppressors
from devsort.sorting.model import infer_shape
from devsort.sorting.task import eval_batch

TASK = TaskConfig(eval_lists=1024)
BATCH = eval_batch(TASK)
CONFIG = HeadsConfig(bootstrap=40)
RATIO = 0.2


@pytest.fixture(scope="module")
def told():
    rng = stream(0, "test-suppressors")
    plan = planted.draw_suppressor(RATIO, 51, rng)
    params = planted.network(plan, TASK, ModelConfig(), rng)
    shape = infer_shape(params, 10, 51)
    one = dataset([analyse(params, shape, BATCH, CONFIG)], [1], CONFIG).isel(checkpoint=0)
    return plan, params, one, suppressors(params, shape, BATCH, one, CONFIG.extent)


def test_who_suppresses_whom_and_where(told):
    plan, _, _, (found,) = told
    assert plan.suppresses[found["head"]].any() and found["copier"] == 1 - found["head"]
    numbers = [cell["number"] for cell in found["numbers"]]
    assert numbers == plan.suppresses[found["head"]].nonzero()[0].tolist()
    assert found["share"] == pytest.approx(len(numbers) / 51)


def test_ratios_are_those_that_were_planted(told):
    *_, (found,) = told
    assert found["ratio"] == pytest.approx(RATIO, rel=0.12)  # it looks a little less at the answer
    assert found["ratio_ci95"][0] <= found["ratio"] <= found["ratio_ci95"][1]
    for cell in found["numbers"]:
        assert cell["ratio_ci95"][0] <= cell["ratio"] <= cell["ratio_ci95"][1] < -0.1
        assert cell["copy_effect_ci95"][0] < cell["copy_effect"] < -1


def test_the_two_heads_look_alike(told):
    *_, (found,) = told
    assert found["attention_similarity"] > 0.95 and found["qk_similarity"] > 0.9


def test_changes_are_told_of_each_condition(told):
    *_, (found,) = told
    assert tuple(found["changes"]) == CHANGES
    assert found["gain"] == pytest.approx(found["changes"]["rest"]["loss"], rel=1e-3)
    assert found["gain_ci95"][0] > 0 and found["z"] >= 3


def test_a_larger_extent_leaves_nobody(told):
    _, params, one, _ = told
    assert suppressors(params, infer_shape(params, 10, 51), BATCH, one, 0.9) == []


def test_the_command_prints_it(told, tmp_path):
    _, params, _, (found,) = told
    path = tmp_path / "w.safetensors"
    save_file(params, path)
    settings = ("--set", "heads.lists=1024", "--set", "heads.bootstrap=40")
    text = devsort("heads", "--weights", path, *settings).out
    assert f"head {found['head']} takes away 0.1" in text or "takes away 0.2" in text
    assert "its suppression of competitors" in text
    assert f"{found['numbers'][0]['number']:8d}" in text
