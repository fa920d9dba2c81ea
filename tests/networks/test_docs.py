"""docs/your-own-network.md says what is true: its blocks run as they stand."""

import re
import warnings
from pathlib import Path

import pytest
import torch

import devsort
from devsort.networks.restrictions import masks_of
from devsort.networks.sources import source_of
from devsort.networks.trajectory import Options
from devsort.sampling.data import as_data

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "your-own-network.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    """The names that the first two blocks leave, and the folder that they ran in."""
    folder = tmp_path_factory.mktemp("page")
    names: dict = {}
    with pytest.MonkeyPatch.context() as patched, torch.random.fork_rng():
        patched.chdir(folder)
        for block in BLOCKS[:2]:
            exec(compile(block, "your-own-network.md", "exec"), names)  # noqa: S102  our own page
    return folder, names


def test_the_ten_lines_give_a_trajectory_stages_and_a_chart(ran):
    folder, names = ran
    trajectory = names["trajectory"]
    assert trajectory.checkpoint.values.tolist() == names["steps"]
    assert trajectory.restriction.values.tolist() == ["full", "first layer"]
    assert {p.name for p in folder.glob("stages.*")} == {"stages.png", "stages.svg"}
    first, *_, last = names["stages"]["stages"]
    assert first["from"] <= 4 and last["name"] == "initial learning" and last["to"] == 256
    assert devsort.load_trajectory(folder / "llc.zarr").identical(trajectory)


def test_they_are_ten_lines():
    lines = [line for line in BLOCKS[1].splitlines() if line and not line.startswith("import")]
    assert len(lines) <= 11


def test_the_restrictions_of_the_page_fit_its_network(ran):
    names: dict = {}
    block = next(b for b in BLOCKS if b.startswith("restrictions"))
    exec(compile(block, "your-own-network.md", "exec"), names)  # noqa: S102  our own page
    params = ran[1]["loss"].params
    masks = masks_of(names["restrictions"], params, ran[1]["loss"])
    free = [
        sum(params[n].numel() if m is None else int(m.sum()) for n, m in masks[k].items())
        for k in ("first layer", "readout", "unit 3")
    ]
    assert free == [8 * 16 + 16, 32, 9]


def test_the_options_of_the_page_are_all_there_are():
    table = PAGE[PAGE.index("| option |") :].split("\n\n")[0]
    named = {n for row in table.splitlines()[2:] for n in re.findall(r"`(\w+)", row.split("|")[1])}
    assert named == set(Options.__dataclass_fields__)


def test_the_page_is_right_about_what_it_says_of_calibration(ran):
    call = "found = devsort.calibrate(loss, late, (x, y), config, options=options)"
    assert call in BLOCKS[2]
    with warnings.catch_warnings(action="error"):
        assert as_data((ran[1]["x"], ran[1]["y"])) is not None


def test_the_function_of_the_page_leaves_out_what_is_not_the_network(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("lightning").mkdir()
    net = torch.nn.Linear(2, 1)
    for step in (100, 200):
        state = {f"net.{name}": t + step for name, t in net.state_dict().items()}
        saved = {"state_dict": {"critic.weight": torch.zeros(1), **state}}
        torch.save(saved, f"lightning/step={step}.ckpt")
    names = {"torch": torch}
    block = next(b for b in BLOCKS if b.startswith("def load"))
    exec(compile(block, "your-own-network.md", "exec"), names)  # noqa: S102  our own page
    found = source_of(names["checkpoints"])
    assert torch.equal(found.load(200)["weight"], net.weight.detach() + 200)
    assert found.load(100).keys() == net.state_dict().keys()
