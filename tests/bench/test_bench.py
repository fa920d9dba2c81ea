"""The machinery of the bench at tiny size: rows, agreement, the floor's count. Never a time."""

import json
from contextlib import nullcontext

import numpy as np
import pytest
import torch
from commands import devsort
from torch.utils.flop_counter import FlopCounterMode

from devsort.bench import Settings, costs, draws, networks, run_bench, samplers, table, timing
from devsort.bench.agreement import same_losses, same_means
from devsort.bench.floor import step_flops
from devsort.bench.report import _cells, _row
from devsort.bench.works import works
from devsort.rng import stream
from devsort.sampling import SamplerConfig, Trace, sample
from devsort.sorting.config import ModelConfig, TaskConfig
from devsort.sorting.kernels import HeadKernel, SortKernel
from devsort.sorting.model import init_params, model_shape
from devsort.sorting.task import sampling_set
from devsort.sorting.trained import known

TINY = Settings(
    batches=(8,),
    restrictions=("full", "h1"),
    repeats=2,
    chain_steps=12,
    draw_steps=3,
    train_steps=8,
    warm_steps=20,
    overrides=(
        "task.list_length=3",
        "task.numbers=7",
        "model.d_model=8",
        "model.d_head=4",
        "train.batch_size=16",
        "train.lr=0.01",
        "llc.dataset_size=64",
    ),
)
KEYS = {
    "what",
    "batch",
    "devsort",
    "peer",
    "ratio",
    "floor",
    "unit",
    "peer_name",
    "spread",
    "agreement",
}


@pytest.fixture(scope="module")
def value():
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")  # no processes to be started
        return run_bench(TINY)


def test_a_row_for_each_kind_of_work_and_peer(value):
    rows = [
        (r["what"], r["batch"], r["peer_name"].rstrip(".0123456789 "), r["unit"])
        for r in value["rows"]
    ]
    peers = ("devinterp", "devinterp on transformer-lens")
    assert rows == [
        *(
            (f"sampler {name}", 8, peer, "chain-steps/s")
            for name in ("full", "h1")
            for peer in peers
        ),
        ("sampler transformer", 32, "devinterp", "chain-steps/s"),
        ("draws transformer", 64, "devinterp", "effective draws/s"),
        ("trainer", 16, "plain autograd", "steps/s"),
        ("trainer", 16, "transformer-lens", "steps/s"),
    ]
    for row in value["rows"]:
        assert row.keys() == KEYS
        assert all(row[key] > 0 for key in ("devsort", "peer", "ratio", "floor"))
        assert all(low <= row[key] <= high for key, (low, high) in row["spread"].items())
    json.dumps(value, allow_nan=False)


def test_the_trainers_have_the_same_losses(value):
    for row in value["rows"][6:]:
        assert row["agreement"]["ok"] and row["agreement"]["off"] <= 1e-5
        assert row["agreement"]["devsort"] == pytest.approx(row["agreement"]["peer"], rel=1e-5)


def test_effective_draws_are_counted_on_one_posterior():
    """In relative geometry with one scale, and in the weights' own units, a chain is the same."""
    of = networks.subject(torch.device("cpu"), 5)
    absolute = draws.in_units(of, 4e-3, 1, 3, seed=0)
    relative = SamplerConfig(
        sampling_method="sgld", num_burnin_steps=1, num_draws=3, batch_size=absolute.batch_size
    )
    ours = sample(of.loss, of.loss.params, of.ids, relative, blocks=draws.BLOCKS)
    theirs = sample(of.loss, of.loss.params, of.ids, absolute)
    assert absolute.lr != relative.lr and ours.rise.std() > 1e-3
    np.testing.assert_allclose(ours.rise, theirs.rise, rtol=1e-3, atol=1e-5)


def test_both_samplers_find_the_known_llc_of_a_head():
    known_llc = next(row["llc"] for point, row in known() if point == costs.point_of("h0"))
    for sampler in (costs.ours, costs.devinterp):
        timed = sampler("h0", 12, seed=0)
        assert timed.rate > 0 and timed.values.shape == (costs.CHAINS,)
        assert timed.values.mean() == pytest.approx(known_llc, rel=0.1)


def test_the_cost_of_an_llc_of_independent_draws():
    """Draws of nβ (L − L(w*)) around 10 with a spread of 2: (20 %/1 %)² draws and the burn-in."""
    rise = 0.1 + 0.02 * stream(0, "cost").standard_normal((4, 2000))
    empty = np.empty((4, 0))
    trace = Trace(
        loss=rise, init_loss=0 * rise, work=0 * rise, force=0 * rise, distance=0 * rise,
        heating=empty, burnin_loss=empty, burnin_init_loss=empty, parts={}, dimension=3,
        config=SamplerConfig(n_beta=100.0, num_draws=2000),
    )  # fmt: skip
    assert costs.seconds_of(trace, 0.5) == pytest.approx(0.5 * (400 + 20), rel=0.1)


def test_llcs_are_timed_at_the_size_of_the_stored_checkpoint_alone():
    """The rows of TINY, a smaller model, have none."""
    default = [work.what for work in works(Settings(warm_steps=1))]
    assert [what for what in default if what.startswith("LLC")] == ["LLC full", "LLC h0"]


def test_a_row_without_a_floor():
    work = timing.Work("LLC full", 64, "LLCs", None, None, {}, same_means)
    once = timing.Timed(6.0, np.array([1.0, 1.01])), timing.Timed(2.0, np.array([1.0, 1.01]))
    row = _row(work, "peer", [dict(zip(("", "peer"), once, strict=True))], 1e9)
    assert row["floor"] is None and _cells(row)[3:9] == ("6.0", "2.0", "3.0", "3.0–3.0", "–", "–")


def test_the_table_has_all_rows(value):
    text = table(value)
    assert text.count("trainer") == 2 and text.count("sampler h1") == 2 and "GFLOP/s" in text


def test_a_process_a_core_computes_what_one_does(tiny_run, monkeypatch):
    monkeypatch.setattr(samplers, "cores", lambda: 2)
    params = init_params(model_shape(tiny_run.config.task, tiny_run.config.model), 0.8, 0)
    timed = samplers.ours(tiny_run, "h0", params)
    monkeypatch.setattr(samplers, "crew", lambda *_: nullcontext([]))
    alone = samplers.ours(tiny_run, "h0", params)
    assert timed.rate > 0 and np.array_equal(timed.values, alone.values)


def test_a_network_is_sampled_on_each_core_at_once(monkeypatch):
    monkeypatch.setattr(networks, "cores", lambda: 2)
    monkeypatch.setattr(samplers, "crew", lambda *_: nullcontext([]))
    own = {"lr": networks.LR, "num_burnin_steps": 0, "num_draws": 3, "num_chains": 2}
    config = SamplerConfig(geometry="absolute", **own)
    rate, traces = networks.sampled(networks.subject(torch.device("cpu"), 5), config, "cpu")
    assert rate > 0 and len(traces) == 2


def test_other_losses_are_told():
    a = [np.array([2.0, 1.0])]
    assert same_losses(a, [a[0] * (1 + 1e-6)])["ok"]
    assert not same_losses(a, [a[0] * (1 + 1e-4)])["ok"]


def test_other_means_and_errors_too_large_are_told():
    chains = [np.array([0.99, 1.01, 1.0, 1.0])]
    assert same_means(chains, [chains[0] + 0.01])["ok"]
    assert not same_means(chains, [chains[0] + 0.1])["ok"]
    # agrees, but says nothing
    assert not same_means(chains, [np.array([-1.0, 3.0, 0.0, 2.0])])["ok"]


def test_the_rate_counts_steps_after_the_first_over_the_whole_span():
    assert timing.rate_of([[0.0, 1.0, 2.0], [1.0, 2.0, 4.0]], per_tick=3) == 3 * 4 / 4.0


def in_place_flop(_, a, b, **__):
    """Of `baddbmm_`, which torch's counter does not know."""
    return 2 * a[0] * a[1] * a[2] * b[2]


@pytest.mark.parametrize("one_head", [False, True])
def test_the_floor_counts_the_products_that_the_torch_kernels_take(one_head):
    """torch's counter also sees the products with a vector: a few per cent at this size."""
    task = TaskConfig(list_length=10, numbers=20)
    shape = model_shape(task, ModelConfig(heads=2, d_model=24, d_head=12))
    data, params = sampling_set(task, 64), init_params(shape, 0.8, 0)
    full, head = (kind(shape, compiled=False) for kind in (SortKernel, HeadKernel))
    frozen = head.freeze(full, params, data, 1)
    counter = FlopCounterMode(
        display=False, custom_mapping={torch.ops.aten.baddbmm_: in_place_flop}
    )
    with counter:
        if one_head:
            own = {name: params[name][1] for name in head.layout.shapes}
            head.value_and_grad(
                head.layout.flatten(own)[None], data[None], frozen, torch.arange(64)[None]
            )
        else:
            full.value_and_grad(full.layout.flatten(params)[None], data[None])
    assert counter.get_total_flops() == pytest.approx(step_flops(shape, 64, one_head), rel=0.02)


def test_a_gpu_that_is_not_there_is_told(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    told = "devsort: error: --device cuda is asked for, but torch sees no GPU; use --device cpu\n"
    assert devsort("bench", "--device", "cuda").err == told


def test_a_batch_of_zero_is_refused():
    result = devsort("bench", "--batch", "0")
    assert result.code == 2 and "Invalid value for '--batch'" in result.err
