"""The susceptibility step: the LLC's own draws, numbers by plain sums, and what is refused."""

import base64
import json
import shutil

import numpy as np
import pytest
import torch
import yaml
from commands import devsort
from folders import told

from devsort.sampling import run_chains
from devsort.sorting.artifacts import LLC, SUSCEPTIBILITY
from devsort.sorting.checkpoints import load_checkpoint, save_checkpoint
from devsort.sorting.explorer import pack
from devsort.sorting.heads.measures import answer_loss
from devsort.sorting.llc import run_llc
from devsort.sorting.model import forward, init_params, model_shape
from devsort.sorting.restrictions import restriction_mask
from devsort.sorting.run import open_run
from devsort.sorting.susceptibility import parts, step, tables
from devsort.sorting.susceptibility.probe import Probe, mean_gaps
from devsort.sorting.susceptibility.sampler import ResponseSampler
from devsort.susceptibility import susceptibility
from runs import TINY

SET = (
    "llc.sampler.num_draws=16",
    "llc.sampler.n_beta=20",
    "llc.first_step=1",
    "susceptibility.every=2",
    "susceptibility.lists=20",
    "susceptibility.gap_classes=2",
)
OPTIONS = [word for setting in SET for word in ("--set", setting)]


def plain_losses(params, data):
    """Cross-entropy of each answer (lists, L) by the model that is meant to be read."""
    return answer_loss(forward(params, data.tokens), data.targets).double().numpy()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A run with its LLC and susceptibilities, sampled with too few draws for science."""
    path = tmp_path_factory.mktemp("susceptibility") / "tiny"
    path.mkdir()
    (path / "config.yaml").write_text(yaml.safe_dump(TINY))
    run = open_run(path, SET)
    shape = model_shape(run.config.task, run.config.model)
    for at in (1, 5, 20):
        save_checkpoint(run, at, init_params(shape, 1.0 + at, at))
    run_llc(run)
    step.run_susceptibility(run)
    return path


@pytest.fixture
def run(folder):
    return open_run(folder, SET)


@pytest.fixture
def found(run):
    return run.read(SUSCEPTIBILITY)


@pytest.fixture
def copied(folder, tmp_path):
    """The folder, to be changed."""
    return shutil.copytree(folder, tmp_path / "tiny")


def test_the_draws_are_those_of_the_llc(run):
    names = step.components(run)
    cells = step.cells_of(run, names)
    sampler = ResponseSampler(run, cells)
    llc = run.read(LLC)
    for name in names:
        job = step.Job(tuple(llc.checkpoint.values.tolist()), name)
        for at, followed in sampler(job, lambda _: None).items():
            stored = llc.loss.sel(checkpoint=at, restriction=name).values
            assert np.array_equal(followed.loss, stored)


def test_losses_and_parts_are_those_of_the_plain_model(run, found):
    probe, last = Probe(run.config), int(found.checkpoint[-1])
    params = load_checkpoint(run, last)
    with torch.no_grad():
        each = plain_losses(params, probe.data)
    targets, one = probe.data.targets.numpy(), found.sel(checkpoint=last)
    for number in range(7):
        assert float(one.loss_number[number]) == pytest.approx(each[targets == number].mean(), 1e-4)
    for place in range(3):
        assert float(one.loss_position[place]) == pytest.approx(each[:, place].mean(), rel=1e-4)
    wide = mean_gaps(probe.data) >= float(one.gap_low[1])
    assert float(one.loss_gap_class[1]) == pytest.approx(each[wide].mean(), rel=1e-4)
    assert 0.3 < wide.mean() < 0.8


def test_susceptibilities_are_covariances_over_the_draws(run, found):
    """By watching the weights themselves, and the plain model's losses at them."""
    name, at = "h1", int(found.checkpoint[0])
    config = step.cells_of(run, (name,))[at, name]
    sampler = ResponseSampler(run, {}).sampler.with_settings(config)
    (piece,) = sampler.lanes_of(sampler.load([at]), name)
    seen, probe = [], Probe(run.config)

    class Spy:
        every = 2

        def __call__(self, w):
            seen.append(piece.objective.weights(w).clone())

    step_losses = []
    run_chains(piece.objective, config, piece.streams, watch=Spy())
    mask = restriction_mask(name, sampler.shape)
    params, names = load_checkpoint(run, at), sorted(mask)
    for w in torch.stack(seen).flatten(0, 1):
        moved, start = {n: p.clone() for n, p in params.items()}, 0
        for n in names:
            size = int(mask[n].sum())
            moved[n][mask[n]] = w[start : start + size]
            start += size
        with torch.no_grad():
            step_losses.append(plain_losses(moved, probe.data))
    each = np.stack(step_losses).reshape(len(seen), config.num_chains, 20, 3)
    each = each.swapaxes(0, 1)  # (C, T, lists, L)
    phi = each.mean((2, 3))
    targets = probe.data.targets.numpy()
    for number in range(7):
        away = each[:, :, targets == number].mean(2) - phi
        pairs = [(c, d) for c in range(2) for d in range(2) if c != d]
        apart = np.mean([phi[c].mean() * away[d].mean() for c, d in pairs])
        stored = found.chi_number.sel(checkpoint=at, component=name, number=number)
        assert float(stored) == pytest.approx(apart - (phi * away).mean(), rel=1e-2, abs=1e-7)


def test_parts_of_a_kind_add_up_to_nothing(run, found):
    probe = Probe(run.config)
    for axis in ("number", "gap_class", "position"):
        weight = probe.parts[axis].flatten(1).sum(1).numpy()
        total = (found[f"chi_{axis}"].values * weight).sum(-1) / weight.sum()
        assert np.abs(total).max() < 1e-9 + 1e-6 * np.abs(found[f"chi_{axis}"].values).max()


def test_json_has_a_row_for_every_part(run, found):
    look = ("--format", "pdf", "--width", "single")
    result = devsort("susceptibility", run.path, "--json", *look, *OPTIONS)
    value = json.loads(result.out)
    assert result.code == 0 and value["run"] == str(run.path)
    assert value["files"] == [str(run.path / "figures" / "susceptibility.pdf")]
    assert len(value["rows"]) == 3 * 2 * (7 + 2 + 3)
    row = value["rows"][8]
    assert {"step", "component", "axis", "part", "chi", "se", "ci95", "rhat"} == set(row)
    assert (row["step"], row["component"], row["axis"], row["part"]) == (1, "h0", "gap_class", 1)
    assert row["chi"] == float(found.chi_gap_class[0, 0, 1])
    assert row["ci95"][0] < row["chi"] < row["ci95"][1]


def test_the_table_says_what_each_head_answers_to(run, found):
    text = tables.text({"rows": tables.rows(found)}).splitlines()
    assert text[0].split() == ["step", "component", "lowest", "χ", "highest", "χ", "R-hat"]
    assert len(text) == 1 + 3 * 2
    lowest = int(found.chi_number[0, 0].values.argmin())
    assert text[1].split()[:3] == ["1", "h0", f"{lowest}:"]


def test_what_is_done_is_not_done_again(copied, monkeypatch):
    run = open_run(copied, SET)
    monkeypatch.setattr(step, "ResponseSampler", None)
    step.run_susceptibility(run)
    with pytest.raises(TypeError):
        step.run_susceptibility(run, force=True)


def test_cells_that_were_followed_are_kept(copied, monkeypatch):
    run = open_run(copied, SET)
    shutil.rmtree(run.susceptibility)
    cells = step.cells_of(run, ("h0",))
    at = min(cells)[0]
    (kept,) = ResponseSampler(run, cells)(step.Job((at,), "h0"), lambda _: None).values()
    parts.save(run, at, "h0", kept)
    again = parts.load(run, at, "h0")
    first, second = susceptibility(kept.chi), susceptibility(again.chi)
    assert np.array_equal(first.value, second.value) and np.array_equal(first.se, second.se)
    followed = []
    call = ResponseSampler.__call__

    def counted(self, job, advanced):
        followed.append((job.restriction, job.steps))
        return call(self, job, advanced)

    monkeypatch.setattr(ResponseSampler, "__call__", counted)
    step.run_susceptibility(run)
    assert ("h0", (at,)) not in followed and ("h1", (at,)) in followed
    assert not run.parts(SUSCEPTIBILITY).exists()


def test_a_component_that_was_not_sampled_is_named(run):
    opened = open_run(run.path, (*SET, "susceptibility.components=[embed]"))
    assert told(step.run_susceptibility, opened) == (
        "susceptibility.components: 'embed' is not among llc.restrictions; "
        "use full, h0, h1, or add it there and run `devsort llc`"
    )


def test_the_llc_comes_first(saved_run):
    run = open_run(saved_run.path, SET)
    fix = f"run `devsort llc {run.path}` first"
    assert told(step.run_susceptibility, run) == f"{run.llc} is missing; {fix}"


def test_too_few_draws_are_told(run):
    opened = open_run(run.path, (*SET[:-3], "susceptibility.every=4", *SET[-2:]))
    assert told(step.run_susceptibility, opened) == (
        "4 draws are too few for a covariance with its error; take at least 8 draws a chain"
    )


def test_too_few_lists_are_told(run):
    opened = open_run(run.path, (*SET, "susceptibility.lists=1"))
    assert told(step.run_susceptibility, opened) == (
        "the mean gaps of 1 lists do not fall into two classes; "
        "raise susceptibility.lists or susceptibility.gap_classes"
    )


def test_the_explorer_has_the_numbers_of_the_store(run, found):
    (number, *_) = pack.responses(run)
    assert number["name"] == "χ by number" and number["components"] == list(found.component.values)
    stored = np.frombuffer(base64.b64decode(number["values"]["data"]), "<f4")
    expected = found.chi_number.transpose("checkpoint", "component", "number").values
    np.testing.assert_allclose(stored.reshape(expected.shape), expected, rtol=1e-6)


def test_without_susceptibilities_the_explorer_has_no_responses(tiny_run):
    assert pack.responses(tiny_run) is None
