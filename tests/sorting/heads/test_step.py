"""The heads step on a run folder and on weight files: results, provenance, and hostile input."""

import json
import os
import pickle
import shutil

import numpy as np
import pytest
import torch
from commands import devsort
from folders import told
from safetensors.torch import save_file

from devsort.sorting import heads, planted
from devsort.sorting.artifacts import HEADS
from devsort.sorting.checkpoints import save_checkpoint
from devsort.sorting.config import HeadsConfig, ModelConfig, TaskConfig, default_config
from devsort.sorting.heads import ranges
from devsort.sorting.heads.variables import VARIABLES
from devsort.sorting.model import init_params, model_shape
from devsort.sorting.run import open_run
from devsort.sorting.task import eval_batch

TASK = TaskConfig(eval_lists=256)


@pytest.fixture(scope="module")
def split():
    return planted.draw_network("split", TASK, ModelConfig(), 0, 0)


def weights_of(plan_kind, path, task=TASK, model=None):
    params, plan = planted.draw_network(plan_kind, task, model or ModelConfig(), 0, 0)
    save_file(params, path)
    return plan


def again(run):
    """The run as another process finds it."""
    return open_run(run.path)


def test_a_run_gives_the_same_as_each_checkpoint_alone(saved_run):
    value = heads.run_heads(saved_run)
    assert value["run"] == str(saved_run.path)
    assert [c["step"] for c in value["checkpoints"]] == [1, 5, 20]
    config, at = saved_run.config, saved_run.read(HEADS).sel(checkpoint=5)
    shape = model_shape(config.task, config.model)
    alone = heads.analyse(init_params(shape, 6.0, 5), shape, eval_batch(config.task), config.heads)
    np.testing.assert_allclose(at.loss_increase, alone.tables["loss_increase"], atol=1e-6)
    np.testing.assert_allclose(at.scores, alone.scores, atol=1e-6)


def test_events_and_intervals_are_stored_with_the_measures(saved_run):
    value, found = heads.run_heads(saved_run), saved_run.read(HEADS)
    assert value["events"] == json.loads(found.attrs["events"]) == heads.events(found)
    low, high = np.quantile(found.score_draws, [0.025, 0.975], axis=1)
    np.testing.assert_array_equal(found.score_ci95.sel(bound="low"), low)
    np.testing.assert_array_equal(found.score_ci95.sel(bound="high"), high)


def test_every_variable_says_what_it_is(saved_run):
    heads.run_heads(saved_run)
    found = saved_run.read(HEADS)
    assert set(map(str, found.variables)) == set(VARIABLES)
    assert all(found[name].attrs["long_name"] == VARIABLES[name][0] for name in found.variables)
    assert found.loss.attrs["units"] == found.suppression_gain.attrs["units"] == "nats"


def test_finished_work_is_not_redone_unless_it_is_forced(saved_run):
    first, mark = heads.run_heads(saved_run), saved_run.heads / "mark"
    mark.touch()
    assert heads.run_heads(again(saved_run)) == first and mark.exists()
    assert heads.run_heads(again(saved_run), force=True) == first and not mark.exists()


def test_other_thresholds_are_other_work(saved_run):
    heads.run_heads(saved_run)
    changed = open_run(saved_run.path, ("heads.need=0.3",))
    fix = f"run `devsort heads {saved_run.path} --force` to discard it and make it again"
    assert told(changed.read, HEADS) == (
        f"{saved_run.heads} was made from another config (heads.need was 0.7, is 0.3); "
        f"undo the change, as with `--set heads.need=0.7`, or {fix}"
    )
    heads.run_heads(changed)
    changed.read(HEADS)


def test_other_weights_are_other_inputs(saved_run):
    heads.run_heads(saved_run)
    shape = model_shape(saved_run.config.task, saved_run.config.model)
    save_checkpoint(saved_run, 5, init_params(shape, 1.0, 99))
    fix = f"run `devsort heads {saved_run.path} --force` to discard it and make it again"
    other = f"{saved_run.heads} was made from other inputs; {fix}"
    assert told(again(saved_run).read, HEADS) == other


def test_a_missing_or_damaged_store_is_told(saved_run):
    missing = f"{saved_run.heads} is missing; run `devsort heads {saved_run.path}` first"
    assert told(saved_run.read, HEADS) == missing
    heads.run_heads(saved_run)
    shutil.rmtree(saved_run.heads / "loss_increase")
    (saved_run.heads / "zarr.json").write_text("{")
    damaged = f"{saved_run.heads} is cut short or damaged ("
    assert told(again(saved_run).read, HEADS).startswith(damaged)
    heads.run_heads(again(saved_run))
    again(saved_run).read(HEADS)


@pytest.mark.parametrize("lost", ["scores", "scores/c", "loss_increase/c", "label_draws/c"])
def test_a_store_that_lost_a_part_is_told(lost, saved_run):
    """Zarr reads a chunk that is gone as zeros, without a word."""
    heads.run_heads(saved_run)
    shutil.rmtree(saved_run.heads / lost)
    fix = f"run `devsort heads {saved_run.path} --force` to make it again"
    unlike = f"{saved_run.heads} does not match its checksum; {fix}"
    assert told(again(saved_run).read, HEADS) == unlike


def test_an_untrained_run_is_told(tiny_run):
    assert told(heads.run_heads, tiny_run) == (
        f"{tiny_run.path} has no checkpoints yet; run `devsort train {tiny_run.path}` first"
    )


@pytest.mark.parametrize("kind", ["single", "split", "three", "eight"])
@pytest.mark.parametrize("suffix", ["safetensors", "pt"])
def test_a_weight_file_is_described(kind, suffix, tmp_path):
    params, plan = planted.draw_network(kind, TASK, ModelConfig(), 0, 0)
    path = tmp_path / f"weights.{suffix}"
    buffers = {
        "blocks.0.attn.mask": torch.ones(21, 21).tril().bool(),
        "blocks.0.attn.IGNORE": torch.tensor(-1e5),
    }
    save_file(params | buffers, path) if suffix == "safetensors" else torch.save(
        params | buffers, path
    )
    value = heads.analyse_weights(
        path, 10, 51, default_config(("heads.lists=1500", "heads.bootstrap=20"))
    )
    assert value["labels"] == plan.labels
    assert value["accuracy"] > (0.99 if plan.errors is None else 0.97)
    assert [h["head"] for h in value["heads"]] == list(range(len(plan.strength)))
    for h in value["heads"]:
        assert h["copies"] == ranges.ranges(plan.copies[h["head"]])
    for name, score in value["scores"].items():
        low, high = value["score_ci95"][name]
        assert 0 <= low <= high <= 1
        assert low - 0.02 <= score <= high + 0.02
    json.dumps(value, allow_nan=False)


def test_other_lengths_and_ranges(tmp_path):
    task, model = (
        TaskConfig(list_length=6, numbers=30),
        ModelConfig(d_model=40, d_head=30, layer_norm=False),
    )
    plan = weights_of("split", tmp_path / "w.safetensors", task, model)
    value = heads.analyse_weights(tmp_path / "w.safetensors", 6, 30, norm="none")
    assert value["labels"] == ["vocabulary-splitting"]
    assert [h["needed"] for h in value["heads"]] == [ranges.ranges(m) for m in plan.needed]


def test_two_numbers_and_one_list(tmp_path):
    """The smallest task and the smallest batch are no special cases."""
    task = TaskConfig(list_length=2, numbers=2, eval_lists=1)
    shape = model_shape(task, ModelConfig(heads=1, d_model=4, d_head=2))
    params = init_params(shape, 1.0, 0)
    result = heads.analyse(params, shape, eval_batch(task), HeadsConfig())
    assert result.scores.shape == (3,)
    assert np.isfinite(result.scores).all()


FIX = "check the file, list length and numbers"


def test_a_vocabulary_that_does_not_fit(split, tmp_path):
    path = tmp_path / "w.safetensors"
    save_file(split[0], path)
    message = told(heads.analyse_weights, path, 10, 50)
    assert message.startswith(f"{path}: embed.W_E has shape (52, 96), expected (51, 96)")
    assert message.endswith(FIX)


def test_missing_keys_and_wrong_shapes(split, tmp_path):
    path = tmp_path / "w.safetensors"
    params = dict(split[0])
    del params["blocks.0.attn.b_O"]
    params["ln_final.w"] = torch.ones(95)
    save_file(params, path)
    assert told(heads.analyse_weights, path, 10, 51) == (
        f"{path}: blocks.0.attn.b_O is missing, ln_final.w has shape (95,), expected (96,); {FIX}"
    )


class Malice:
    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return os.system, (f"touch {self.mark}",)


def test_a_pickle_with_code_in_it_is_not_run(tmp_path):
    path, mark = tmp_path / "w.pt", tmp_path / "mark"
    path.write_bytes(pickle.dumps({"embed.W_E": Malice(mark)}))
    bare = f"{path} is a pickle, which can run code; if you trust it, save it anew: "
    assert told(heads.analyse_weights, path, 10, 51).startswith(bare)
    message = f"{path} holds more than tensors, or is no weight file; save `model.state_dict()`"
    torch.save({"embed.W_E": Malice(mark)}, path)
    assert told(heads.analyse_weights, path, 10, 51) == message
    assert not mark.exists()


def test_the_command_on_a_run(saved_run):
    result = devsort("heads", saved_run.path, "--json")
    assert result.code == 0
    value = json.loads(result.out)
    assert value == heads.run_heads(again(saved_run))
    for one in value["checkpoints"]:
        assert {"step", "loss", "accuracy", "heads", "scores", "labels"} <= one.keys()
        assert set(one["scores"]) == {"vocabulary_splitting", "copy_suppression", "overlap"}
        assert all({"head", "copies", "suppresses", "needed"} <= h.keys() for h in one["heads"])
    text = devsort("heads", saved_run.path)
    assert text.code == 0 and "step 20: loss" in text.out


def test_the_command_on_a_weight_file(tmp_path):
    path = tmp_path / "w.safetensors"
    weights_of("split", path)
    result = devsort("heads", "--weights", path, "--set", "heads.lists=200")
    assert result.code == 0
    assert "labels: vocabulary-splitting (100% of resamples)" in result.out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "heads needs exactly one of RUN, --weights FILE and --hf FOLDER; give one of them"),
        (
            ("a", "--hf", "b"),
            "heads needs exactly one of RUN, --weights FILE and --hf FOLDER; give one of them",
        ),
        (
            ("--weights", "w.pt", "--list-length", "9", "--numbers", "8"),
            "--list-length 9 is more than --numbers 8; lists have no repetition",
        ),
        (
            ("--weights", "nowhere.pt"),
            "nowhere.pt is missing; give a .safetensors file, or one of torch.save",
        ),
        (
            ("--hf", "nowhere"),
            "nowhere holds no config.json with a model_type; "
            "give a folder with config.json and model.safetensors or pytorch_model.bin of a GPT-2",
        ),
    ],
)
def test_mistakes_on_the_command_line(arguments, message):
    assert devsort("heads", *arguments) == (2, "", f"devsort: error: {message}\n")
