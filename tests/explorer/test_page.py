"""The page as a file: whole, harmless, the same each time, and never over a stranger's file."""

import base64
import hashlib
import json
import re
from dataclasses import fields
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

import devsort
from devsort.charts.style import FLAG_MARKERS
from devsort.errors import UserError
from devsort.explorer.advice import ADVICE
from devsort.explorer.page import harmless
from devsort.llc.flags import FLAGS, Diagnostics
from devsort.stages import Trajectory

WEB = sorted(Path(devsort.__file__).parent.rglob("web/*"))
HOSTILE = "</script><script>alert(1)</script><!-- &lt;"


class Reader(HTMLParser):
    """The tags of a page and what its scripts and styles hold."""

    def __init__(self) -> None:
        super().__init__()
        self.tags, self.inside, self.text = [], None, {}

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self.inside = tag if not dict(attrs).get("id") else dict(attrs)["id"]

    def handle_endtag(self, tag):
        self.inside = None

    def handle_data(self, data):
        self.text[self.inside] = self.text.get(self.inside, "") + data


def page_of(tmp_path: Path, **more) -> str:
    step = np.geomspace(10, 1000, 12)
    trajectory = Trajectory(step, np.linspace(5, 50, 12), np.ones(12))
    return devsort.explore(trajectory, out=tmp_path / "page.html", **more).read_text()


def read(page: str) -> Reader:
    reader = Reader()
    reader.feed(page)
    return reader


def test_the_policy_allows_the_script_and_style_of_the_page_alone(tmp_path):
    reader = read(page_of(tmp_path))
    policy = next(a["content"] for t, a in reader.tags if a.get("http-equiv"))
    for tag in ("script", "style"):
        digest = base64.b64encode(hashlib.sha256(reader.text[tag].encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in policy
    assert policy.startswith("default-src 'none'; ") and "unsafe" not in policy


def test_the_page_names_no_other_file(tmp_path):
    page = page_of(tmp_path)
    assert re.findall(r"\w+://[^\s\"'<]+", page) == ["http://www.w3.org/2000/svg"]
    links = [a for _, a in read(page).tags if {"src", "href", "data", "action"} & set(a)]
    assert links == []


def test_names_from_outside_are_text(tmp_path):
    step = np.geomspace(10, 1000, 12)
    signals = {HOSTILE: (step, step)}
    page = page_of(tmp_path, name=HOSTILE, signals=signals, about={HOSTILE: HOSTILE})
    reader = read(page)
    assert [tag for tag, _ in reader.tags].count("script") == 2
    run = json.loads(reader.text["data"])["runs"][0]
    assert run["name"] == run["panels"][-1]["title"] == run["about"][HOSTILE] == HOSTILE


def test_data_hold_no_character_that_begins_html():
    assert harmless({"a<b": "&>"}) == r'{"a\u003cb":"\u0026\u003e"}'


def test_the_same_page_twice_is_the_same_bytes(tmp_path):
    assert page_of(tmp_path) == page_of(tmp_path)


def test_a_strangers_file_is_kept(tmp_path):
    (tmp_path / "page.html").write_text("<!doctype html> my own")
    with pytest.raises(UserError) as refused:
        page_of(tmp_path)
    path = tmp_path / "page.html"
    told = f"{path} is a file that devsort did not write; give another with --out"
    assert str(refused.value) == told and path.read_text() == "<!doctype html> my own"


def test_a_folder_is_refused(tmp_path):
    (tmp_path / "page.html").mkdir()
    with pytest.raises(UserError, match=r"page\.html is a folder; give a file with --out$"):
        page_of(tmp_path)


def test_each_step_needs_its_trace(tmp_path):
    with pytest.raises(ValueError, match=r"^1 traces for 12 steps$"):
        page_of(tmp_path, traces=[None])


def test_every_flag_has_a_reason_and_a_remedy():
    assert tuple(ADVICE) == FLAGS
    assert all(why and fix for why, fix, _ in ADVICE.values())
    assert {key for *_, key in ADVICE.values() if key} == {f.name for f in fields(Diagnostics)}


def test_every_flag_has_the_shape_that_it_has_in_the_figures():
    script = next(path for path in WEB if path.name == "flags.js").read_text()
    drawn = re.findall(r'^  "?([^\s"]+)"?: (?:outline\(|")', script, re.MULTILINE)
    assert {*FLAG_MARKERS.values(), "X"} == set(drawn)
    assert len(set(FLAG_MARKERS.values())) == len(FLAG_MARKERS)


def test_files_of_the_page_are_short_and_narrow():
    texts = {path.name: path.read_text() for path in WEB}
    assert len(texts) == len(WEB) >= 20
    assert {name for name, text in texts.items() if text.count("\n") > 300} == set()
    assert {name for name, t in texts.items() for line in t.split("\n") if len(line) > 100} == set()


def test_the_script_runs_no_text():
    scripts = "\n".join(path.read_text() for path in WEB if path.suffix == ".js")
    names = r"\b(eval|Function|innerHTML|outerHTML|insertAdjacentHTML|document\.write|import)\b"
    assert re.findall(names, scripts) == []
