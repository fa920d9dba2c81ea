"""Every figure at the width of one column: as wide as asked, texts of 7 to 9 points, none touch."""

from types import SimpleNamespace

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text
from stages.datasets import EVENTS, head_scores, llc_table

from devsort.charts import calibrate, compare, stage_chart, traces
from devsort.charts.style import WIDTHS
from devsort.sorting.artifacts import HEADS, LLC
from devsort.sorting.charts import circuits, ownership
from devsort.sorting.run import open_run
from devsort.sorting.stages import scores
from devsort.stages import detect, from_llc
from devsort.stages.config import StagesConfig
from devsort.stages.report import as_json

STEPS = (10, 46, 215, 825, 2200, 6000)
EVERY = ("stages", "overlay", "traces", "heat map", "chains", "ownership", "circuits")


def trial(n_beta, localization, step, flags):
    return {"n_beta": n_beta, "localization": localization, "lr": 4.3e-3, "step": step,
            "climb": 0.1, "llc": 226.41, "se": 0.82, "flags": flags}  # fmt: skip


CALIBRATION = {
    "checkpoints": STEPS,
    "trials": [
        trial(n_beta, localization, step, [*calibrate.SHORT][i : i + 3])
        for n_beta in (300.0, 10_000.0)
        for localization in (4.0, 6.66)
        for i, step in enumerate(STEPS)
    ],
    "proposal": {"settings": trial(300.0, 6.66, 10, [])},
}
CHAINS = {
    (300.0, 6.66, step): SimpleNamespace(
        burnin_rise=np.linspace(0, 0.2, 20).reshape(2, 10), rise=np.full((2, 50), 0.2)
    )
    for step in STEPS
}


@pytest.fixture(scope="module")
def story() -> stage_chart.Story:
    found = detect(from_llc(llc_table()), StagesConfig(bootstrap=20))
    stages = as_json(found, scores(head_scores()), EVENTS)
    return stage_chart.from_datasets(stages, llc_table(), head_scores(), None)


@pytest.fixture(scope="module")
def draw(smoke, story):
    """Name and width → figure."""
    run = open_run(smoke.path)
    events = [
        {"event": name, "step": step, "ci95": [0.9 * step, 1.1 * step]}
        for name, step in (("overlap_end", 20), ("suppression_onset", 200), ("rank_drop", 290))
    ]
    flagged = run.read(LLC).load().copy(deep=True)
    flagged["flags"][:] = True
    return {
        "stages": lambda width: stage_chart.figure(story, width),
        "overlay": lambda width: compare.figure({"baseline": story, "no-decay": story}, width),
        "traces": lambda width: traces.figure(flagged, width=width),
        "heat map": lambda width: calibrate.heat_map(CALIBRATION, width),
        "chains": lambda width: calibrate.trace_panels(CALIBRATION, CHAINS, width),
        "ownership": lambda width: ownership.plot(run.read(HEADS), events, width),
        "circuits": lambda width: circuits.of_run(run, width),
    }


def drawn_texts(figure: Figure, monkeypatch: pytest.MonkeyPatch) -> list[Text]:
    """The texts that come on paper; ticks outside an axis do not."""
    drawn: dict[int, Text] = {}
    plain = Text.draw

    def noted(text, renderer):
        if text.get_visible() and text.get_text().strip():
            drawn[id(text)] = text
        return plain(text, renderer)

    monkeypatch.setattr(Text, "draw", noted)
    FigureCanvasAgg(figure).draw()
    return list(drawn.values())


@pytest.mark.parametrize("name", EVERY)
def test_at_one_column_no_text_touches_another(draw, name, monkeypatch):
    figure = draw[name](WIDTHS["single"])
    texts = drawn_texts(figure, monkeypatch)
    boxes = [Text.get_window_extent(text) for text in texts]
    inner = [box.padded(-min(1, box.width / 3, box.height / 3)) for box in boxes]
    touching = [
        (texts[i].get_text(), texts[j].get_text())
        for i, a in enumerate(inner)
        for j, b in enumerate(inner[:i])
        if a.overlaps(b)
    ]
    assert len(texts) > 5 and touching == []
    page = figure.bbox.padded(1)
    outside = [t for t, box in zip(texts, boxes, strict=True) if not within(box, page)]
    assert [text.get_text() for text in outside] == []
    assert {text.get_fontsize() for text in texts} <= {7, 8, 9}


@pytest.mark.parametrize("width", WIDTHS.values(), ids=WIDTHS)
@pytest.mark.parametrize("name", EVERY)
def test_a_figure_is_as_wide_as_asked(draw, name, width):
    assert draw[name](width).get_size_inches()[0] == width


def within(box, page) -> bool:
    return page.x0 <= box.x0 and box.x1 <= page.x1 and page.y0 <= box.y0 and box.y1 <= page.y1
