"""The derived table, its JSON rows and its text."""

import numpy as np
import pytest
import xarray as xr
import zarr

from devsort.llc import FLAGS
from devsort.llc.store import Store
from devsort.llc.table import NUMBERS, SCALARS, make_table, rows, text_table
from devsort.sorting.artifacts import LLC
from devsort.sorting.run import open_run
from devsort.sorting.samplers import chance_loss, settings

# of the design
KEYS = {
    "step", "restriction", "llc", "se", "ci95", "rhat", "ess", "loss", "chains_failed", "parts",
    "flags", "heat", "burnin_steps", "steps_bw_draws",
}  # fmt: skip


@pytest.fixture(scope="module")
def table(smoke) -> xr.Dataset:
    return open_run(smoke.path).read(LLC)


def remade(smoke, change=lambda traces: traces) -> xr.Dataset:
    """The table of the session's draws after the first checkpoint's have been changed."""
    run = open_run(smoke.path)

    class Changed(Store):
        def traces(self, position):
            found = super().traces(position)
            return change(found) if position == 0 else found

    store = Changed(run.llc, zarr.open_group(run.llc, mode="r"), settings(run))
    return make_table(store, chance_loss(run))


def kill_second_chain(traces):
    for name in ("loss", "distance", "work", "force"):
        getattr(traces[0], name)[1, 5:] = np.nan
    return traces


def test_rows_have_the_keys_of_the_design_in_the_order_of_the_store(smoke, table):
    values = smoke.values["llc"]["trajectory"]
    assert all(row.keys() == KEYS for row in values)
    pairs = [(int(s), str(n)) for s in table.checkpoint.values for n in table.restriction.values]
    assert [(r["step"], r["restriction"]) for r in values] == pairs
    assert [str(n) for n in table.restriction.values] == ["full", "h0", "h1"]
    assert all(set(r["flags"]) <= set(FLAGS) and r["chains_failed"] == 0 for r in values)
    assert all(list(r["parts"]) == ["small-gaps", "large-gaps"] for r in values)


def test_the_stored_table_is_that_of_the_stored_draws(smoke, table):
    made = remade(smoke)
    assert set(made.data_vars) < set(table.data_vars)
    for name, variable in made.variables.items():
        np.testing.assert_array_equal(variable, table[name], err_msg=str(name))


def test_the_table_holds_every_estimate_and_its_evidence(table):
    lead = ("checkpoint", "restriction")
    assert all(table[name].dims == lead and np.isfinite(table[name]).all() for name in SCALARS)
    assert all(table[name].dims == lead for name in NUMBERS)
    assert table["llc_chain"].dims == (*lead, "chain")
    np.testing.assert_allclose(table["llc_chain"].mean("chain"), table["llc"], rtol=1e-12)
    start = table["init_loss"].isel(restriction=0).mean(["chain", "draw"])
    np.testing.assert_allclose(table["checkpoint_loss"], start, rtol=1e-5)


def test_stored_intervals_are_students_and_those_of_the_rows(smoke, table):
    from scipy.stats import t

    chains = table.sizes["chain"]
    scatter = table["heating"].mean("probe").std("chain", ddof=1) / np.sqrt(chains)
    other = scatter**2 + (table["heat"] / 2) ** 2
    of_draws = table["se"] ** 2 - other
    dof = table["se"] ** 4 / (of_draws**2 / (2 * (chains - 1)) + scatter**4 / (chains - 1))
    half = t.ppf(0.975, dof) * table["se"]  # where 1.96 would be too few
    assert dof.min() >= chains - 1 and half.min() > 0
    assert table["ci95"].dims == ("checkpoint", "restriction", "bound")
    np.testing.assert_allclose(table["ci95"].sel(bound="low"), table["llc"] - half, rtol=1e-5)
    np.testing.assert_allclose(table["ci95"].sel(bound="high"), table["llc"] + half, rtol=1e-5)
    found = [row["ci95"] for row in smoke.values["llc"]["trajectory"]]
    assert found == table["ci95"].values.reshape(-1, 2).tolist()


def test_parts_enclose_the_whole(smoke, table):
    """Small and large gaps together are all lists, weighed by their counts in each minibatch.

    Up to the error.
    """
    parts, slack = table["part_llc"], 2 * table["se"]
    assert parts.sizes["part"] == 2
    assert (parts.min("part") - slack <= table["llc"]).all()
    assert (table["llc"] <= parts.max("part") + slack).all()
    first = smoke.values["llc"]["trajectory"][0]["parts"]["small-gaps"]
    cell = table.isel(checkpoint=0, restriction=0).sel(part="small-gaps")
    assert first == {"llc": float(cell.part_llc), "se": float(cell.part_se)}


def test_a_dead_chain_withholds_its_cell_alone(smoke, table):
    made = remade(smoke, kill_second_chain)
    row, *others = list(rows(made))
    assert [row[key] for key in ("llc", "se", "ci95", "rhat", "ess")] == [None] * 5
    assert row["chains_failed"] == 1 and "dead_chains" in row["flags"]
    assert [r["llc"] for r in others] == [r["llc"] for r in rows(table)][1:]
    assert np.isnan(made["llc_chain"][0, 0].values).tolist() == [False, True, False]


def test_the_text_has_a_line_a_row_and_a_dash_for_what_is_withheld(smoke):
    value = {"trajectory": list(rows(remade(smoke, kill_second_chain)))}
    head, first, second, *_ = lines = text_table(value).splitlines()
    assert len(lines) == 1 + len(value["trajectory"])
    assert head.split() == ["step", "weights", "LLC", "±", "SE", "R-hat", "ESS", "loss", "flags"]
    r = value["trajectory"][0]
    assert first.split()[:7] == [str(r["step"]), "full", "–", "–", "–", "–", f"{r['loss']:.4f}"]
    assert first.endswith(", ".join(r["flags"])) and "dead_chains" in first
    r = value["trajectory"][1]
    assert second.split()[:4] == [str(r["step"]), "h0", f"{r['llc']:.1f}", f"{r['se']:.1f}"]
    column = head.index("LLC") + len("LLC")
    # numbers end under their heads
    assert all(line[column] == " " and line[column - 1] != " " for line in lines)
