"""The chart of traces: what is drawn is what was sampled, also where there is little of it."""

import math

import numpy as np
import pytest
import xarray as xr
from matplotlib.image import imread

from devsort.charts import traces
from devsort.charts.style import with_error
from devsort.sorting.artifacts import LLC
from devsort.sorting.run import open_run


@pytest.fixture
def llc(smoke) -> xr.Dataset:
    """The draws and the table of the session's run, to be changed at will."""
    return open_run(smoke.path).read(LLC).load().copy(deep=True)


def note(axis) -> list[str]:
    """The lines over a panel, below its step."""
    return axis.get_title(loc="left").splitlines()[1:]


def test_both_files_are_written_and_hold_a_picture(smoke):
    names = [name for name in smoke.values["chart"]["files"] if "traces" in name]
    assert names == [str(smoke.path / "figures" / f"traces.{kind}") for kind in ("png", "svg")]
    picture = imread(names[0])
    assert picture.shape[1] > 1000 and picture.std() > 0.02
    text = (smoke.path / "figures" / "traces.svg").read_text()
    assert (
        "step of the chain" in text
        and "(nats)" in text
        and "step 300" in text
        and "burn-in" in text
    )


def test_checkpoints_are_early_middle_and_late():
    assert traces.chosen(np.arange(10, 111, 10)) == [40, 70, 110]
    assert traces.chosen(np.array([5, 300])) == [5, 300]
    assert traces.chosen(np.array([300])) == [300]


def test_every_chain_is_drawn_as_it_was_sampled(llc):
    data = llc.sel(checkpoint=300, restriction="h1")
    axis = traces.figure(llc).axes[8]  # third row, third column
    raw = [line.get_ydata() for line in axis.lines if len(line.get_xdata()) == 24]
    rises = (data.burnin_loss - data.burnin_init_loss, data.loss - data.init_loss)
    np.testing.assert_array_equal(raw, np.concatenate(rises, axis=1))
    shaded = axis.patches[0]
    assert (shaded.get_x(), shaded.get_x() + shaded.get_width()) == (0, 8)
    assert note(axis)[0] == f"λ̂ {with_error(float(data.llc), float(data.se))}"


def test_flags_stand_in_the_panel(llc):
    llc["flags"][0, 0, 2] = True
    drawn, steps = traces.figure(llc), traces.chosen(llc.checkpoint.values)
    for i, name in enumerate(llc.restriction.values):
        for j, step in enumerate(steps):
            cell = llc.sel(checkpoint=step, restriction=name)
            flags = llc.flag.values[cell.flags.values.astype(bool)]
            told = ", ".join(str(flag).replace("_", " ") for flag in flags)
            assert " ".join(note(drawn.axes[3 * i + j])[1:]) == (f"! {told}" if told else "")


def test_a_withheld_estimate_is_called_so(llc):
    llc["llc"][:] = np.nan
    llc["loss"][:, :, 1, 5:] = np.nan
    assert note(traces.figure(llc).axes[0])[0] == "λ̂ withheld"


@pytest.mark.parametrize("draws", [1, 5])
def test_chains_shorter_than_the_running_mean_are_drawn(llc, draws):
    short = llc.isel(draw=slice(0, draws), burnin=slice(0, 0), checkpoint=[5])
    assert len(traces.figure(short).axes) == 3


def test_the_level_of_a_uniform_guess_is_marked_where_it_fits(llc):
    llc["loss"][:] = llc["init_loss"] + 3.0
    llc["burnin_loss"][:] = llc["burnin_init_loss"] + 3.0
    axis = traces.figure(llc, math.log(13)).axes[2]
    (marked,) = (line for line in axis.lines if line.get_linestyle() != "-")
    level = math.log(13) - float(llc["checkpoint_loss"].sel(checkpoint=300))
    assert marked.get_ydata()[0] == pytest.approx(level)
    assert any("uniform guess" in t.get_text() for t in axis.texts)
    unmarked = traces.figure(llc).axes[2]
    assert {line.get_linestyle() for line in unmarked.lines} == {"-"}


def test_a_chain_that_was_made_longer_is_drawn_over_its_own_steps(llc):
    llc["steps_bw_draws"].loc[{"checkpoint": 300, "restriction": "h1"}] = 2
    axis = traces.figure(llc).axes[8]
    (x,) = {tuple(line.get_xdata()) for line in axis.lines if len(line.get_xdata()) == 24}
    assert x == (*range(8), *range(8, 8 + 2 * 16, 2))
