"""The page in Chromium: it is driven as a reader would, and its numbers are the commands'."""

import csv
import io
import json
import shutil
import xml.etree.ElementTree as ET
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch
import xarray as xr
from commands import devsort
from pages import unpacked

import devsort as package
from devsort.explorer.advice import ADVICE
from devsort.sorting import circuits
from devsort.sorting.checkpoints import load_checkpoint
from devsort.sorting.explorer.networks import rounded, typical
from devsort.sorting.heads.measures import ablated, residual
from devsort.sorting.model import activations, model_shape, unembed
from devsort.sorting.run import Run, open_run
from devsort.sorting.task import eval_batch, make_batch
from devsort.stages import Trajectory

CHROMIUM = shutil.which("chromium")
WITHOUT = "no Chromium on the path: `apt-get install chromium`, or go on without these tests"
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason=WITHOUT)

HOSTILE = "<img src=x onerror=alert(1)>"
WIDTHS = (1440, 390)
TOLERANCE = 1e-4  # of a logit: single precision in torch, double in the page
LIST = [7, 2, 11, 4]


class Explored(NamedTuple):
    """A page of two runs, open; all that it asked for and complained about."""

    page: object
    file: Path
    run: Run
    comparison: dict
    requests: list[str]
    complaints: list[str]


@pytest.fixture(scope="module")
def browser():
    api = pytest.importorskip("playwright.sync_api")
    with api.sync_playwright() as driver:
        opened = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.fixture(scope="module")
def two_runs(smoke, tmp_path_factory) -> tuple[Path, Path, dict]:
    """The page of the smoke run and of a copy with a hostile name, and their comparison."""
    folder = tmp_path_factory.mktemp("explored")
    twin = folder / HOSTILE
    shutil.copytree(smoke.path, twin)
    out = folder / "explorer.html"
    result = devsort("explore", smoke.path, twin, "--out", out)
    assert result.code == 0, result.err
    compared = devsort("compare", smoke.path, twin, "--out", folder / "comparison", "--json")
    return out, smoke.path, json.loads(compared.out)


@pytest.fixture(params=WIDTHS)
def explored(browser, two_runs, request) -> Iterator[Explored]:
    out, run, comparison = two_runs
    page = browser.new_page(viewport={"width": request.param, "height": 900})
    requests, complaints = [], []
    page.on("request", lambda r: requests.append(r.url))
    page.on("console", lambda m: complaints.append(m.text) if m.type != "log" else None)
    page.on("pageerror", lambda e: complaints.append(str(e)))
    page.goto(out.as_uri())
    yield Explored(page, out, open_run(run), comparison, requests, complaints)
    page.close()


def at_step(explored: Explored, frame: int) -> int:
    """Moves the slider to a frame; the step there."""
    explored.page.evaluate("frame => explorer.setState({ frame })", frame)
    settle(explored)
    return explored.page.evaluate("explorer.STEPS[explorer.state.frame]")


def first_number(text: str) -> float:
    """The number that a cell of a table begins with."""
    return float(text.split(" ")[0].replace("−", "-"))


def settle(explored: Explored) -> None:
    """Waits until what was asked for is drawn."""
    explored.page.evaluate(
        """async () => {
          const frame = () => new Promise((drawn) => requestAnimationFrame(drawn));
          await frame();
          do await frame(); while (!explorer.settled());
        }"""
    )


def torch_logits(run: Run, step: int, numbers: list[int], heads: tuple[int, ...] = ()):
    """Logits (L, V) and attention (H, L, 2L) of the rounded weights, heads replaced by means."""
    shape = model_shape(run.config.task, run.config.model)
    params = rounded(load_checkpoint(run, step), "")
    task = run.config.task.model_copy(update={"eval_lists": run.config.heads.lists})
    mean, _ = typical(params, shape, eval_batch(task))
    act = activations(params, make_batch(np.array([numbers]), run.config.task).tokens)
    stream = residual(params, act)
    for head in heads:
        stream = ablated(stream, act, head, mean[None, :, None])
    return unembed(params, stream)[0].numpy(), act.pattern[0].numpy()


def page_answer(explored: Explored, frame: int, options: dict) -> dict:
    """What the page's network answers to LIST."""
    found = explored.page.evaluate(
        """([frame, list, options]) => {
          const network = explorer.networkOf(explorer.RUNS[0], frame);
          const { logits, pattern, answers, tokens } = explorer.answer(network, list, options);
          return { logits: logits.map(r => [...r]), pattern, answers, tokens };
        }""",
        [frame, LIST, options],
    )
    return found


def test_the_page_asks_for_nothing_and_complains_of_nothing(explored):
    for frame in range(explored.page.evaluate("explorer.STEPS.length")):
        at_step(explored, frame)
    for key in ("theme", "log", "free", "save-csv"):
        explored.page.click(f"#{key}")
    settle(explored)
    assert explored.requests == [explored.file.as_uri()]
    assert explored.complaints == []


def test_the_page_is_as_wide_as_the_window(explored):
    wide = explored.page.evaluate(
        "[document.documentElement.scrollWidth, document.documentElement.clientWidth]"
    )
    assert wide[0] <= wide[1]


def test_keys_move_the_slider_and_everything_with_it(explored, smoke):
    page, steps = explored.page, smoke_steps(smoke)
    for key, step in (("Home", steps[0]), ("ArrowRight", steps[1]), ("End", steps[-1])):
        page.keyboard.press(key)
        settle(explored)
        assert page.text_content("#step") == f"step {step:,}"
        assert page.input_value("#slider") == str(steps.index(step))
    page.keyboard.press("ArrowLeft")
    settle(explored)
    row = next(
        r
        for r in smoke.values["llc"]["trajectory"]
        if (r["step"], r["restriction"]) == (steps[-2], "full")
    )
    page.locator("section[aria-label=Evidence]").scroll_into_view_if_needed()
    settle(explored)
    cells = page.locator("section[aria-label=Evidence] tr", has_text="LLC: whole model").first
    texts = cells.locator("td").all_text_contents()
    assert texts[0] == str(steps[-2])
    assert first_number(texts[1]) == pytest.approx(row["llc"], rel=0.01)
    assert texts[4] == ", ".join(flag.replace("_", " ") for flag in row["flags"])


def test_play_runs_to_the_end_and_stops(explored):
    page, last = explored.page, explored.page.evaluate("explorer.STEPS.length - 1")
    at_step(explored, last - 1)
    page.click("#play")
    page.locator("#play", has_text="Play").wait_for()
    assert page.evaluate("explorer.state.frame") == last


@pytest.mark.parametrize("heads", [(), (0,), (1,), (0, 1)])
def test_the_network_is_equal_to_torch(explored, heads, smoke):
    for frame, step in enumerate(smoke_steps(smoke)):
        logits, pattern = torch_logits(explored.run, step, LIST, heads)
        found = page_answer(explored, frame, {"ablated": list(heads)})
        np.testing.assert_allclose(found["logits"], logits, atol=TOLERANCE)
        for head, rows in enumerate(found["pattern"]):
            for i, row in enumerate(rows):
                np.testing.assert_allclose(row, pattern[head, i, : len(row)], atol=TOLERANCE)
                assert pattern[head, i, len(row) :].sum() == 0


def test_the_network_can_go_on_from_its_own_answers(explored):
    found = page_answer(explored, 0, {"free": True})
    L = len(LIST)
    assert found["tokens"] == [*LIST, explored.run.config.task.numbers, *found["answers"][:-1]]
    params = rounded(load_checkpoint(explored.run, explored.page.evaluate("explorer.STEPS[0]")), "")
    act = activations(params, torch.tensor([found["tokens"]]))
    logits = unembed(params, residual(params, act))[0]
    np.testing.assert_allclose(found["logits"], logits.numpy(), atol=TOLERANCE)
    assert logits.argmax(-1).tolist() == found["answers"] and len(found["answers"]) == L


def test_circuits_are_those_of_the_figures(explored, smoke):
    shape = model_shape(explored.run.config.task, explored.run.config.model)
    task = explored.run.config.task.model_copy(
        update={"eval_lists": explored.run.config.heads.lists}
    )
    for frame, step in enumerate(smoke_steps(smoke)):
        params = rounded(load_checkpoint(explored.run, step), "")
        _, sigma = typical(params, shape, eval_batch(task))
        truth = {"OV": circuits.ov(params, shape) / sigma, "QK": circuits.qk(params, shape)}
        found = explored.page.evaluate(
            """frame => {
              const { OV, QK } = explorer.circuitsOf(explorer.RUNS[0], frame);
              return { OV: OV.map(h => [...h]), QK: QK.map(h => [...h]) };
            }""",
            frame,
        )
        for kind, matrix in truth.items():
            np.testing.assert_allclose(found[kind], matrix.flatten(1), atol=TOLERANCE)


def test_a_list_is_typed_and_a_head_ablated(explored, smoke):
    page, steps = explored.page, smoke_steps(smoke)
    at_step(explored, len(steps) - 1)
    page.fill("#list", " ".join(map(str, LIST)))
    live = page.locator(f"[data-run='{explored.run.path.name}'] [data-live=answers]").first
    live.scroll_into_view_if_needed()
    page.locator("button[data-head='0']").first.click()
    settle(explored)
    rows = [row.locator("td").all_text_contents() for row in live.locator("tbody tr").all()]
    order = np.argsort(LIST)
    targets = np.array(LIST)[order]
    assert rows[0] == [str(t) for t in targets]
    for offset, heads in ((1, ()), (4, (0,))):
        logits, _ = torch_logits(explored.run, steps[-1], LIST, heads)
        log_p = torch.tensor(logits).log_softmax(-1)
        answers = log_p.argmax(-1).tolist()
        pairs = zip(answers, targets, strict=True)
        assert rows[offset] == [said(explored.run, *pair) for pair in pairs]
        loss = [-float(log_p[i, t]) for i, t in enumerate(targets)]
        assert [float(v) for v in rows[offset + 2]] == pytest.approx(loss, abs=2e-3)
    rise = np.array(rows[6], float) - np.array(rows[3], float)
    assert [first_number(cell) for cell in rows[7]] == pytest.approx(list(rise), abs=0.02)


def test_a_click_on_a_head_ablates_it_and_another_gives_it_back(explored):
    page = explored.page
    head = page.locator("section[aria-label='The network of this step'] .matrices figure").nth(1)
    switch = page.locator("button[data-head='1']").first
    head.scroll_into_view_if_needed()
    settle(explored)  # what comes into view is drawn then, and moves what is below
    for heads, pressed, said in (([1], "true", ", ablated"), ([], "false", "")):
        head.locator("canvas").click()
        settle(explored)
        assert page.evaluate("explorer.state.ablated[0]") == heads
        assert switch.get_attribute("aria-pressed") == pressed
        assert head.locator("figcaption").text_content() == f"attention of head 1{said}"


@pytest.mark.parametrize(
    ("typed", "message"),
    [
        ("1 2 3", "3 numbers, expected 4"),
        ("1 2 3 3", "3 is there twice: the network learned lists without repetition"),
        ("1 2 3 12", "12 is no whole number from 0 to 11"),
        ("1 2 3 -1", "-1 is no whole number from 0 to 11"),
        ("<b>", "<b> is no whole number from 0 to 11"),
    ],
)
def test_what_is_no_list_is_told(explored, typed, message):
    before = explored.page.evaluate("explorer.state.list")
    explored.page.fill("#list", typed)
    assert explored.page.text_content("#message") == message
    assert explored.page.evaluate("explorer.state.list") == before


def test_a_list_is_drawn(explored):
    page = explored.page
    box = page.locator(".drawing").bounding_box()
    page.locator(".drawing").scroll_into_view_if_needed()
    box = page.locator(".drawing").bounding_box()
    page.mouse.move(box["x"] + box["width"] * 0.9, box["y"] + 2)
    page.mouse.down()
    page.mouse.up()
    settle(explored)
    drawn = page.evaluate("explorer.state.list")
    assert drawn[-1] == 11 and len(set(drawn)) == 4
    assert page.input_value("#list") == " ".join(map(str, drawn))


def test_heads_by_number_are_those_of_the_command(explored, smoke):
    values = smoke.values["heads"]["checkpoints"]
    found = explored.page.evaluate(
        "explorer.RUNS[0].sorter.heads.step.map((_, c) => c)"
        ".map(c => [0, 1].map(h => { const m = explorer.measuresOf(explorer.RUNS[0]).needed;"
        " const [, H, N] = m.shape; return [...m.values.slice((c*H+h)*N, (c*H+h+1)*N)]; }))"
    )
    for one, masks in zip(values, found, strict=True):
        for head, mask in zip(one["heads"], masks, strict=True):
            inside = [n for lo, hi in head["needed"] for n in range(lo, hi + 1)]
            assert [n for n, holds in enumerate(mask) if holds] == inside


def test_the_comparison_is_that_of_the_command(explored):
    rows = explored.page.locator("#comparison table").first.locator("tbody tr").all()
    told = {row.locator("th").text_content(): row.locator("td").all_text_contents() for row in rows}
    for label, key in (("peak LLC", "peak_llc"), ("final loss (nats)", "loss")):
        values = [run[key] for run in explored.comparison["runs"]]
        found = [first_number(cell) for cell in told[label]]
        assert found == pytest.approx(values, rel=0.01)


def test_names_of_runs_are_text(explored):
    assert HOSTILE in explored.page.text_content("h1")
    assert explored.page.locator("img").count() == 0


def test_hovering_tells_the_numbers_of_a_point(explored):
    chart = explored.page.locator("svg[aria-label^='LLC of']").first
    chart.scroll_into_view_if_needed()
    chart.hover()
    tip = explored.page.text_content("#tooltip")
    assert tip.startswith("whole model at step ") and "R-hat " in tip and "ESS " in tip


def test_each_flag_has_a_mark_of_its_own_at_its_points_and_in_the_legend(explored, smoke):
    rows = [r for r in smoke.values["llc"]["trajectory"] if r["restriction"] == "full"]
    truth = Counter(flag for row in rows for flag in row["flags"])
    chart = explored.page.locator("figure:has(svg[aria-label^='LLC of'])").first
    chart.scroll_into_view_if_needed()
    settle(explored)
    marks = "marks => marks.map(m => [m.dataset.flag, m.getAttribute('d')])"
    drawn = chart.locator("svg[role=img] path[data-flag]").evaluate_all(marks)
    assert Counter(flag for flag, _ in drawn) == truth
    shapes = dict(drawn)
    assert len(set(shapes.values())) == len(shapes) > 1
    legend = chart.locator("figcaption path[data-flag]").evaluate_all(marks)
    assert dict(legend) == shapes


def test_each_flag_is_explained(explored, smoke):
    rows = smoke.values["llc"]["trajectory"]
    worst = max(rows, key=lambda row: len(row["flags"]))["step"]
    at_step(explored, smoke_steps(smoke).index(worst))
    evidence = explored.page.locator("section[aria-label=Evidence]")
    evidence.scroll_into_view_if_needed()
    told = evidence.locator("ul").first.locator("li")
    told.first.wait_for()
    labels = {"full": "whole model", "h0": "head 0", "h1": "head 1"}
    begun = [
        f"{labels[row['restriction']]}: flagged {flag.replace('_', ' ')}: {ADVICE[flag][0]}"
        for row in rows
        if row["step"] == worst
        for flag in row["flags"]
    ]
    assert begun
    for text, start in zip(told.all_text_contents(), begun, strict=True):
        assert text.startswith(start)


def test_the_csv_has_the_numbers_of_the_command(explored, smoke):
    rows = list(csv.DictReader(io.StringIO(explored.page.evaluate("explorer.csv()"))))
    name = explored.run.path.name
    found = [r for r in rows if (r["run"], r["series"]) == (name, "whole model")]
    truth = [r for r in smoke.values["llc"]["trajectory"] if r["restriction"] == "full"]
    assert [int(r["step"]) for r in found] == [r["step"] for r in truth]
    for key, column in (("llc", "value"), ("rhat", "rhat"), ("ess", "ess")):
        assert [float(r[column]) for r in found] == pytest.approx([r[key] for r in truth], rel=1e-5)
    assert [r["flags"].split() for r in found] == [r["flags"] for r in truth]


def test_the_svg_of_the_view_is_whole(explored):
    at_step(explored, 0)
    root = ET.fromstring(explored.page.evaluate("explorer.svgOfView()"))
    inner = root.findall("{http://www.w3.org/2000/svg}svg")
    charts = explored.page.locator("main svg").count()
    assert len(inner) == charts and charts >= 12
    assert all(len(drawing) for drawing in inner)
    words = [text.text for text in root.findall("{http://www.w3.org/2000/svg}text")]
    assert {"Timeline", "Evidence", HOSTILE} <= set(words)


def test_weights_come_back_as_they_were_packed(explored):
    found = explored.page.evaluate(
        "[...explorer.networkOf(explorer.RUNS[0], 0).weights['unembed.W_U'].values]"
    )
    packed = explored.page.evaluate("explorer.RUNS[0].sorter.networks[0].weights['unembed.W_U']")
    np.testing.assert_array_equal(np.float32(found), unpacked(packed).astype(np.float32).ravel())


def test_any_network_has_the_page_without_the_sorters_sections(browser, tmp_path):
    step = np.geomspace(10, 1000, 12)
    trajectory = Trajectory(step, np.linspace(5, 50, 12), np.ones(12), loss=1 / step)
    parts = [HOSTILE, "even numbers"]
    answers = xr.DataArray(
        np.arange(48.0).reshape(12, 2, 2) - 30,
        {"step": step, "component": [HOSTILE, "layer 1"], "part": parts},
        dims=("step", "component", "part"),
    )
    out = package.explore(
        trajectory,
        out=tmp_path / "any.html",
        signals={HOSTILE: (step, step)},
        responses={"susceptibility": answers},
    )
    page, complaints = browser.new_page(), []
    page.on("console", lambda m: complaints.append(m.text))
    page.on("pageerror", lambda e: complaints.append(str(e)))
    page.goto(out.as_uri())
    page.keyboard.press("Home")
    titles = page.locator("main h2").all_text_contents()
    assert titles == ["Timeline", "Responses", "Evidence"] and complaints == []
    assert HOSTILE in page.locator("figcaption").all_text_contents()
    rows = list(csv.DictReader(io.StringIO(page.evaluate("explorer.csv()"))))
    found = {r["series"]: float(r["value"]) for r in rows if r["panel"] == "susceptibility"}
    names = [f"{c}, {p}" for c in (HOSTILE, "layer 1") for p in parts]
    assert found == dict(zip(names, answers[0].values.ravel(), strict=True))
    canvas = page.locator("section[aria-label=Responses] canvas")
    canvas.scroll_into_view_if_needed()
    page.wait_for_function("explorer.settled()")
    box = canvas.bounding_box()
    page.mouse.move(box["x"] + box["width"] - 5, box["y"] + box["height"] - 5)
    assert page.text_content("#tooltip") == "layer 1, even numbers: −27"
    page.close()


def said(run: Run, answer: int, target: int) -> str:
    """How the page writes an answer: SEP by name, a wrong one with a cross."""
    name = "SEP" if answer == run.config.task.numbers else str(answer)
    return name if answer == target else f"✗{name}"


def smoke_steps(smoke) -> list[int]:
    return sorted({row["step"] for row in smoke.values["llc"]["trajectory"]})
