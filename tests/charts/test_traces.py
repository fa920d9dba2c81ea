"""The chart of traces: what is drawn is what was sampled, also where there is little of it."""

import math

import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.image import imread

from devsort.charts import traces
from devsort.llc import load_llc
from devsort.sorting.run import open_run


@pytest.fixture
def figure(monkeypatch):
    """Draws and hands over the figure instead of saving it."""
    drawn = []
    monkeypatch.setattr(
        traces, "save_figure", lambda figure, folder, name: drawn.append(figure) or []
    )

    def draw(run):
        traces.draw(run)
        return drawn[-1]

    yield draw
    plt.close("all")


def test_both_files_are_written_and_hold_a_picture(smoke):
    names = [name for name in smoke.values["chart"]["files"] if "traces" in name]
    assert names == [str(smoke.path / "figures" / f"traces.{kind}") for kind in ("png", "svg")]
    picture = imread(names[0])
    assert picture.shape[1] > 1000 and picture.std() > 0.02
    text = (smoke.path / "figures" / "traces.svg").read_text()
    assert "SGLD step" in text and "(nats)" in text and "step 300" in text and "burn-in" in text


def test_checkpoints_are_early_middle_and_late():
    assert traces.chosen(np.arange(10, 111, 10)) == [40, 70, 110]
    assert traces.chosen(np.array([5, 300])) == [5, 300]
    assert traces.chosen(np.array([300])) == [300]


def test_every_chain_is_drawn_as_it_was_sampled(smoke, figure):
    run = open_run(smoke.path)
    data = load_llc(run).sel(checkpoint=300, restriction="h1")
    axis = figure(run).axes[8]  # third row, third column
    raw = [line.get_ydata() for line in axis.lines if len(line.get_xdata()) == 24]
    expected = np.concatenate(
        [data.burnin_loss - data.burnin_init_loss, data.loss - data.init_loss], axis=1
    )
    np.testing.assert_array_equal(raw, expected)
    shaded = axis.patches[0]
    assert (shaded.get_x(), shaded.get_x() + shaded.get_width()) == (0, 8)
    llc, se = float(data.llc), float(data.se)
    assert axis.texts[0].get_text().startswith(f"λ̂ = {llc:.0f} ± {se:.0f}")


def test_flags_stand_in_the_panel(smoke, figure):
    run = open_run(smoke.path)
    data, drawn = load_llc(run), figure(run)
    steps = traces.chosen(data.checkpoint.values)
    for i, name in enumerate(data.restriction.values):
        for j, step in enumerate(steps):
            cell = data.sel(checkpoint=step, restriction=name)
            flags = [
                str(f).replace("_", " ") for f in data.flag.values[cell.flags.values.astype(bool)]
            ]
            assert drawn.axes[3 * i + j].texts[0].get_text().splitlines()[1:] == [
                f"! {f}" for f in flags
            ]


def altered(monkeypatch, data):
    monkeypatch.setattr(traces, "load_llc", lambda run: data)


def test_a_withheld_estimate_is_called_so(smoke, figure, monkeypatch):
    run = open_run(smoke.path)
    data = load_llc(run).load().copy(deep=True)
    data["llc"][:] = np.nan
    data["loss"][:, :, 1, 5:] = np.nan
    altered(monkeypatch, data)
    assert figure(run).axes[0].texts[0].get_text().splitlines()[0] == "λ̂ = withheld"


@pytest.mark.parametrize("draws", [1, 5])
def test_chains_shorter_than_the_running_mean_are_drawn(smoke, figure, monkeypatch, draws):
    run = open_run(smoke.path)
    altered(
        monkeypatch, load_llc(run).isel(draw=slice(0, draws), burnin=slice(0, 0), checkpoint=[5])
    )
    assert len(figure(run).axes) == 3


def test_the_level_of_a_uniform_guess_is_marked_where_it_fits(smoke, figure, monkeypatch):
    run = open_run(smoke.path)
    data = load_llc(run).load().copy(deep=True)
    data["loss"][:] = data["init_loss"] + 3.0
    data["burnin_loss"][:] = data["burnin_init_loss"] + 3.0
    altered(monkeypatch, data)
    axis = figure(run).axes[2]
    (marked,) = (line for line in axis.lines if line.get_linestyle() != "-")
    level = math.log(13) - float(data["checkpoint_loss"].sel(checkpoint=300))
    assert marked.get_ydata()[0] == pytest.approx(level)
    assert any("uniform guess" in t.get_text() for t in axis.texts)
