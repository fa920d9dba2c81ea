"""The derived table, its JSON rows and its text."""

import numpy as np
import pytest
import xarray as xr
from devsort.sorting.workers import chance_context, settings

from devsort.llc import FLAGS, load_llc, text_table
from devsort.llc.store import Store, open_group
from devsort.llc.table import NUMBERS, SCALARS, make_table, rows
from devsort.sorting.run import open_run

# of the design
KEYS = {"step", "restriction", "llc", "se", "rhat", "ess", "loss", "chains_failed", "flags"}


@pytest.fixture(scope="module")
def table(smoke) -> xr.Dataset:
    return load_llc(open_run(smoke.path))


def remade(smoke, change) -> xr.Dataset:
    """The table of the session's draws after `change` has had its way with the first checkpoint's."""
    run = open_run(smoke.path)

    class Changed(Store):
        def traces(self, position):
            found = super().traces(position)
            return change(found) if position == 0 else found

    return make_table(Changed(run.llc, open_group(run.llc, "")), chance_context(run, settings(run)))


def kill_second_chain(traces):
    for name in ("loss", "distance", "work", "force"):
        getattr(traces[0], name)[1, 5:] = np.nan
    return traces


def test_rows_have_the_keys_of_the_design_in_the_order_of_the_store(smoke, table):
    values = smoke.values["llc"]["trajectory"]
    assert all(row.keys() >= KEYS for row in values)
    pairs = [(int(s), str(n)) for s in table.checkpoint.values for n in table.restriction.values]
    assert [(r["step"], r["restriction"]) for r in values] == pairs
    assert [str(n) for n in table.restriction.values] == ["full", "h0", "h1"]
    assert all(set(r["flags"]) <= set(FLAGS) and r["chains_failed"] == 0 for r in values)


def test_the_table_holds_every_estimate_and_its_evidence(table):
    lead = ("checkpoint", "restriction")
    assert all(table[name].dims == lead and np.isfinite(table[name]).all() for name in SCALARS)
    assert all(table[name].dims == lead for name in NUMBERS)
    assert table["ci95"].dims == (*lead, "bound") and table["llc_chain"].dims == (*lead, "chain")
    assert (table["ci95"].sel(bound="low") < table["llc"]).all() and (
        table["llc"] < table["ci95"].sel(bound="high")
    ).all()
    np.testing.assert_allclose(table["llc_chain"].mean("chain"), table["llc"], rtol=1e-12)
    np.testing.assert_allclose(
        table["checkpoint_loss"],
        table["init_loss"].isel(restriction=0).mean(["chain", "draw"]),
        rtol=1e-5,
    )


def test_parts_enclose_the_whole(table):
    """Small and large gaps together are all lists, weighed by their counts in each minibatch.

    Up to the error.
    """
    parts, slack = table["llc_part"], 2 * table["se"]
    assert parts.sizes["part"] == 2
    assert (parts.min("part") - slack <= table["llc"]).all() and (
        table["llc"] <= parts.max("part") + slack
    ).all()


def test_a_dead_chain_withholds_its_cell_alone(smoke, table):
    made = remade(smoke, kill_second_chain)
    row, *others = list(rows(made))
    assert (
        row["llc"] is row["se"] is row["rhat"] is row["ess"] is None and row["chains_failed"] == 1
    )
    assert "dead_chains" in row["flags"]
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
