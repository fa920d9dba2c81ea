"""The heads step on a run folder and on weight files: results, provenance, and hostile input."""

import json
import os
import pickle
import shutil

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from devsort import cli
from devsort.errors import UserError
from devsort.sorting import heads, planted
from devsort.sorting.config import HeadsConfig, ModelConfig, TaskConfig, default_config
from devsort.sorting.model import init_params, model_shape
from devsort.sorting.run import open_run, save_checkpoint
from devsort.sorting.task import eval_batch

TASK = TaskConfig(eval_lists=256)


@pytest.fixture
def trained(tiny_run):
    """The tiny run with weights at three steps, the last being the final one."""
    shape = model_shape(tiny_run.config.task, tiny_run.config.model)
    for step in (1, 5, 20):
        save_checkpoint(tiny_run, step, init_params(shape, 1.0 + step, step))
    return tiny_run


@pytest.fixture(scope="module")
def split():
    return planted.draw_network("split", TASK, ModelConfig(), 0, 0)


def weights_of(plan_kind, path, task=TASK, model=None):
    params, plan = planted.draw_network(plan_kind, task, model or ModelConfig(), 0, 0)
    save_file(params, path)
    return plan


def refused(call, *arguments):
    with pytest.raises(UserError) as e:
        call(*arguments)
    assert "\n" not in str(e.value)
    return str(e.value)


def test_a_run_gives_the_same_as_each_checkpoint_alone(trained):
    value = heads.run_heads(trained)
    assert value["run"] == str(trained.path)
    assert [c["step"] for c in value["checkpoints"]] == [1, 5, 20]
    found = heads.load_heads(trained)
    shape = model_shape(trained.config.task, trained.config.model)
    alone = heads.analyse(
        init_params(shape, 6.0, 5), shape, eval_batch(trained.config.task), trained.config.heads
    )
    np.testing.assert_allclose(
        found.loss_increase.sel(checkpoint=5), alone.tables["loss_increase"], atol=1e-6
    )
    np.testing.assert_allclose(found.scores.sel(checkpoint=5), alone.scores, atol=1e-6)


def test_finished_work_is_not_redone(trained, monkeypatch):
    first = heads.run_heads(trained)
    monkeypatch.setattr(
        "devsort.sorting.heads.step.analyse", lambda *_: pytest.fail("measured again")
    )
    assert heads.run_heads(trained) == first


def test_force_redoes_it(trained):
    heads.run_heads(trained)
    (trained.heads / "mark").touch()
    heads.run_heads(trained, force=True)
    assert not (trained.heads / "mark").exists()


def test_other_thresholds_are_other_work(trained):
    heads.run_heads(trained)
    changed = open_run(trained.path, ("heads.need=0.3",))
    fix = f"run `devsort heads {trained.path} --force` to make it again"
    assert refused(heads.load_heads, changed) == (
        f"{trained.heads} was made from another config (heads.need was 0.7, is 0.3); {fix}"
    )
    heads.run_heads(changed)
    heads.load_heads(changed)


def test_other_weights_are_other_inputs(trained):
    heads.run_heads(trained)
    shape = model_shape(trained.config.task, trained.config.model)
    save_checkpoint(trained, 5, init_params(shape, 1.0, 99))
    fix = f"run `devsort heads {trained.path} --force` to make it again"
    assert (
        refused(heads.load_heads, trained) == f"{trained.heads} was made from other inputs; {fix}"
    )


def test_a_missing_or_damaged_store_is_told(trained):
    assert refused(heads.load_heads, trained) == (
        f"{trained.heads} is missing; run `devsort heads {trained.path}` first"
    )
    heads.run_heads(trained)
    shutil.rmtree(trained.heads / "loss_increase")
    (trained.heads / "zarr.json").write_text("{")
    assert refused(heads.load_heads, trained).startswith(
        f"{trained.heads} is cut short or damaged ("
    )
    heads.run_heads(trained)
    heads.load_heads(trained)


@pytest.mark.parametrize("lost", ["scores", "scores/c", "loss_increase/c", "label_draws/c"])
def test_a_store_that_lost_a_part_is_told(lost, trained):
    """Zarr reads a chunk that is gone as zeros, without a word."""
    heads.run_heads(trained)
    shutil.rmtree(trained.heads / lost)
    fix = f"run `devsort heads {trained.path} --force` to make it again"
    assert (
        refused(heads.load_heads, trained) == f"{trained.heads} does not match its checksum; {fix}"
    )


def test_an_untrained_run_is_told(tiny_run):
    assert refused(heads.run_heads, tiny_run) == (
        f"{tiny_run.path} has no checkpoints yet; run `devsort train {tiny_run.path}` first"
    )


@pytest.mark.parametrize("kind", ["single", "split", "three", "eight"])
@pytest.mark.parametrize("suffix", ["safetensors", "pt"])
def test_a_weight_file_is_described(kind, suffix, tmp_path):
    params, plan = planted.draw_network(kind, TASK, ModelConfig(), 0, 0)
    path = tmp_path / f"weights.{suffix}"
    buffers = {
        "blocks.0.attn.mask": torch.ones(21, 21).bool(),
        "blocks.0.attn.IGNORE": torch.tensor(-1e5),
    }
    save_file(params | buffers, path) if suffix == "safetensors" else torch.save(
        params | buffers, path
    )
    value = heads.analyse_weights(path, 10, 51, default_config(("heads.lists=300",)))
    assert value["labels"] == plan.labels
    assert value["accuracy"] > 0.99
    assert [h["head"] for h in value["heads"]] == list(range(len(plan.strength)))
    for h in value["heads"]:
        assert h["copies"] == heads.modes.ranges(plan.copies[h["head"]])
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
    value = heads.analyse_weights(tmp_path / "w.safetensors", 6, 30)
    assert value["labels"] == ["vocabulary-splitting"]
    assert [h["needed"] for h in value["heads"]] == [heads.modes.ranges(m) for m in plan.needed]


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
    message = refused(heads.analyse_weights, path, 10, 50)
    assert message.startswith(f"{path}: embed.W_E has shape (52, 96), expected (51, 96)")
    assert message.endswith(FIX)


def test_missing_keys_and_wrong_shapes(split, tmp_path):
    path = tmp_path / "w.safetensors"
    params = dict(split[0])
    del params["blocks.0.attn.b_O"]
    params["ln_final.w"] = torch.ones(95)
    save_file(params, path)
    assert refused(heads.analyse_weights, path, 10, 51) == (
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
    message = f"{path} holds more than tensors, or is no weight file; save `model.state_dict()`"
    assert refused(heads.analyse_weights, path, 10, 51) == message
    torch.save({"embed.W_E": Malice(mark)}, path)
    assert refused(heads.analyse_weights, path, 10, 51) == message
    assert not mark.exists()


def command(capsys, *arguments):
    """Exit code, standard output and standard error of one call of devsort."""
    with pytest.raises(SystemExit) as e:
        cli.main([str(a) for a in arguments])
    out, err = capsys.readouterr()
    return e.value.code, out, err


def test_the_command_on_a_run(trained, capsys):
    code, out, _ = command(capsys, "heads", trained.path, "--json")
    assert code == 0
    value = json.loads(out)
    assert value == heads.run_heads(trained)
    for one in value["checkpoints"]:
        assert {"step", "loss", "accuracy", "heads", "scores", "labels"} <= one.keys()
        assert set(one["scores"]) == {"vocabulary_splitting", "copy_suppression", "overlap"}
        assert all({"head", "copies", "suppresses", "needed"} <= h.keys() for h in one["heads"])
    code, out, _ = command(capsys, "heads", trained.path)
    assert code == 0
    assert "step 20: loss" in out


def test_the_command_on_a_weight_file(tmp_path, capsys):
    weights_of("split", tmp_path / "w.safetensors")
    code, out, _ = command(
        capsys, "heads", "--weights", tmp_path / "w.safetensors", "--set", "heads.lists=200"
    )
    assert code == 0
    assert "labels: vocabulary-splitting (100% of resamples)" in out


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
        (("--weights", "nowhere.pt"), "nowhere.pt is missing; give a .safetensors or .pt file"),
        (
            ("--hf", "nowhere"),
            "nowhere holds no config.json with a model_type; "
            "give a folder with config.json and model.safetensors of a GPT-2",
        ),
    ],
)
def test_mistakes_on_the_command_line(arguments, message, capsys):
    code, out, err = command(capsys, "heads", *arguments)
    assert (code, out, err) == (2, "", f"devsort: error: {message}\n")
