"""JSON objects: verified or refused, and no folder of strangers is written into."""

import pytest
from folders import told

from devsort.storage.artifact import Origin
from devsort.storage.objects import read_json, read_object, refuse_foreign, write_json, write_object

ORIGIN = Origin("devsort stages x", "{}", "abc")
VALUE = {"name": "δ̄", "steps": [1, 2], "llc": 0.1, "nothing": None}
ANEW = "; run `devsort stages x --force` to discard it and make it again"
AGAIN = "; run `devsort stages x --force` to make it again"


def test_an_object_comes_back_with_its_checksum(tmp_path):
    path, other = tmp_path / "stages.json", tmp_path / "other.json"
    write_object(path, VALUE, ORIGIN)
    write_object(other, {**VALUE, "llc": 0.2}, ORIGIN)
    value, checksum = read_object(path, ORIGIN)
    assert value == VALUE and checksum != read_object(other, ORIGIN)[1]
    text = path.read_bytes()
    write_object(path, VALUE, ORIGIN)
    assert path.read_bytes() == text


def test_an_object_that_is_missing_edited_or_foreign_is_named(tmp_path):
    path = tmp_path / "stages.json"
    missing = f"{path} is missing; run `devsort stages x` first"
    assert told(read_object, path, ORIGIN) == missing
    write_object(path, VALUE, ORIGIN)
    other = Origin(ORIGIN.command, "{}", "of other inputs")
    assert told(read_object, path, other) == f"{path} was made from other inputs{ANEW}"
    path.write_text(path.read_text().replace('"llc": 0.1', '"llc": 0.2'))
    assert told(read_object, path, ORIGIN) == f"{path} does not match its checksum{AGAIN}"
    write_json(path, VALUE)
    assert told(read_object, path, ORIGIN) == f"{path} is not what devsort wrote{AGAIN}"


@pytest.mark.parametrize(
    "text",
    [b'{"a": 1', b"", b"\xff", b"[" * 100_000, b'{"a": ' + b"9" * 5000 + b"}"],
    ids=["cut", "empty", "no text", "deep", "huge"],
)
def test_damaged_json_is_named(tmp_path, text):
    path = tmp_path / "value.json"
    path.write_bytes(text)
    message = told(read_json, path, "mend it")
    assert message.startswith(f"{path} is cut short or damaged (")
    assert message.endswith("; mend it")


def test_json_comes_back_and_what_is_no_object_is_named(tmp_path):
    path = tmp_path / "value.json"
    assert told(read_json, path, "make it") == f"{path} is missing; make it"
    write_json(path, VALUE)
    assert read_json(path, "") == VALUE
    path.write_text("[1]")
    assert told(read_json, path, "mend it") == f"{path} holds no JSON object; mend it"


def test_a_folder_of_strangers_is_refused_and_our_own_is_not(tmp_path):
    folder = tmp_path / "out"
    refuse_foreign(folder, "compare.json")
    folder.mkdir()
    refuse_foreign(folder, "compare.json")
    (folder / "thesis.tex").touch()
    fix = "give another folder with --out"
    message = f"{folder} holds files that devsort did not write; {fix}"
    assert told(refuse_foreign, folder, "compare.json") == message
    (folder / "compare.json").touch()
    refuse_foreign(folder, "compare.json")
