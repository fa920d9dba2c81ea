"""The config.

Defaults in one place, everything else refused in one line that says what, where and what to do.
"""

import re
from pathlib import Path

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError

from devsort.errors import UserError
from devsort.sampling.config import SamplerConfig
from devsort.sorting.config import Config, TaskConfig, load_config, parse_config
from devsort.storage.settings import Section

RUNS = Path(__file__).parents[2] / "runs"
SEE = "; see `devsort config --help` for keys and ranges"
quick = settings(
    max_examples=100,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


def refused(path: Path, text: str | bytes = "", *overrides: str) -> str:
    """What is told about a config.yaml of this text.

    Without the path, with which the message must start.
    """
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    with pytest.raises(UserError) as e:
        load_config(path, overrides)
    message = str(e.value)
    assert len(message.splitlines()) == 1
    return message.removeprefix(f"{path}: ")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "config.yaml"


def sections(model: type[BaseModel] = Config):
    """Every section with the dotted name of the place that holds it."""
    yield model
    for field in model.model_fields.values():
        if isinstance(field.annotation, type) and issubclass(field.annotation, Section):
            yield from sections(field.annotation)


@pytest.mark.parametrize("section", list(sections()), ids=lambda s: s.__name__)
def test_every_field_has_one_line_of_description_and_a_valid_default(section):
    for name, field in section.model_fields.items():
        is_section = isinstance(field.annotation, type) and issubclass(field.annotation, Section)
        assert is_section or re.fullmatch(r"[^\n]+", field.description or ""), name
    assert section.model_validate(section().model_dump()) == section()


def test_an_empty_file_gives_the_defaults_of_the_paper(path):
    path.write_text("")
    config = load_config(path)
    assert config == Config()
    assert (config.task.list_length, config.task.numbers) == (10, 51)
    assert (
        config.model.heads,
        config.model.d_model,
        config.model.d_head,
        config.model.layer_norm,
    ) == (2, 96, 48, True)
    assert (config.train.batch_size, config.train.lr, config.train.weight_decay) == (
        512,
        1e-3,
        0.005,
    )


def test_the_two_runs_differ_in_weight_decay_alone():
    a, b = (
        load_config(RUNS / name / "config.yaml").model_dump() for name in ("baseline", "no-decay")
    )
    assert (a["train"].pop("weight_decay"), b["train"].pop("weight_decay")) == (0.005, 0.0)
    assert a == b


def test_the_challenge_sees_its_lists_25_times_at_a_falling_rate():
    a, b = (load_config(RUNS / name / "config.yaml") for name in ("baseline", "challenge"))
    assert b.train.steps * b.train.batch_size // b.task.train_lists == 24  # and most of a 25th
    assert b.train.steps == round(25 * b.task.train_lists / b.train.batch_size)
    assert (b.train.lr, b.train.lr_final) == (1e-3, 1e-4)
    assert (a.model, a.train.weight_decay) == (b.model, b.train.weight_decay)


def test_a_config_is_frozen():
    config = Config()
    for change in (
        lambda: setattr(config, "device", "cpu"),
        lambda: setattr(config.train, "steps", 1),
    ):
        with pytest.raises(ValidationError, match="frozen"):
            change()
    assert hash(config) == hash(Config())


CONSTRUCTED = {
    "a sampler": (
        lambda: SamplerConfig(lr=-1, burnin=3),
        "SamplerConfig: lr: Input should be greater than 0 (got '-1'); unknown key burnin",
    ),
    "a config": (
        lambda: Config(train={"steps": 0}),
        "Config: train.steps: Input should be greater than or equal to 1 (got '0')",
    ),
    "two settings that do not fit": (
        lambda: TaskConfig(list_length=9, numbers=8),
        "TaskConfig: list_length 9 is more than the 8 numbers to draw from",
    ),
}


@pytest.mark.parametrize("case", CONSTRUCTED)
def test_what_is_refused_from_python_is_one_line_too(case):
    make, message = CONSTRUCTED[case]
    with pytest.raises(UserError) as e:
        make()
    assert str(e.value) == f"{message}; `devsort config` prints every setting with its range"


def test_steps_of_a_chain_are_burn_in_and_draws():
    assert (
        SamplerConfig(num_draws=7, num_burnin_steps=5, num_steps_bw_draws=3).num_steps == 5 + 7 * 3
    )


REFUSED = {
    "unknown key": ("task: {lenght: 3}", "unknown key task.lenght"),
    "unknown section": ("trainer: {steps: 3}", "unknown key trainer"),
    "unknown key inside": ("llc: {sampler: {epsilon: 1}}", "unknown key llc.sampler.epsilon"),
    "wrong type": (
        "train: {steps: many}",
        "train.steps: Input should be a valid integer, "
        "unable to parse string as an integer (got 'many')",
    ),
    "fraction": (
        "train: {steps: 1.5}",
        "train.steps: Input should be a valid integer, "
        "got a number with a fractional part (got '1.5')",
    ),
    "nothing": ("train: {steps: }", "train.steps: Input should be a valid integer (got 'None')"),
    "boolean": (
        "model: {heads: yes}",
        "model.heads: Input should be a valid integer, "
        "unable to parse string as an integer (got 'yes')",
    ),
    "true": ("model: {heads: true}", "model.heads: Input should not be true or false (got 'True')"),
    "minutes": (
        "train: {steps: 1:30}",
        "train.steps: Input should be a valid integer, "
        "unable to parse string as an integer (got '1:30')",
    ),
    "a date": (
        "train: {steps: 2020-01-01}",
        "train.steps: Input should be a valid integer, "
        "unable to parse string as an integer (got '2020-01-01')",
    ),
    "list": ("train: {steps: [1]}", "train.steps: Input should be a valid integer (got a list)"),
    "a geometry of mappings": (
        "llc: {sampler: {geometry: {a: 1}}}",
        "llc.sampler.geometry: Input should be 'relative' or 'absolute'",
    ),
    "no section": (
        "train: 3",
        "train: Input should be a valid dictionary or instance of TrainConfig (got '3')",
    ),
    "too small": (
        "train: {steps: 0}",
        "train.steps: Input should be greater than or equal to 1 (got '0')",
    ),
    "too large": (
        "model: {heads: 9}",
        "model.heads: Input should be less than or equal to 8 (got '9')",
    ),
    "huge": (
        "train: {steps: 0x1" + "0" * 5000 + "}",
        "train.steps: Input should be less than or equal to 1000000000 (got a huge integer)",
    ),
    "no probability": (
        "task: {label_noise: 1.5}",
        "task.label_noise: Input should be less than or equal to 1 (got '1.5')",
    ),
    "negative rate": ("train: {lr: -1}", "train.lr: Input should be greater than 0 (got '-1')"),
    "not a number": ("train: {lr: .nan}", "train.lr: Input should be a finite number (got 'nan')"),
    "infinite": (
        "llc: {sampler: {n_beta: .inf}}",
        "llc.sampler.n_beta: Input should be a finite number (got 'inf')",
    ),
    "longer than numbers": (
        "task: {list_length: 9, numbers: 8}",
        "task: list_length 9 is more than the 8 numbers to draw from",
    ),
    "betas": ("train: {betas: [0.9, 1]}", "train: betas must lie in [0, 1), got [0.9, 1.0]"),
    "choice": ("device: tpu", "device: Input should be 'auto', 'cpu' or 'cuda' (got 'tpu')"),
    "number as key": ("1: 2", "1: Keys should be strings (got '1')"),
    "long value": (
        "device: " + "x" * 200,
        f"device: Input should be 'auto', 'cpu' or 'cuda' (got '{'x' * 80}')",
    ),
    "all at once": (
        "{task: {numbers: 1}, train: {steps: -1, spets: 2}, device: 7}",
        "task.numbers: Input should be greater than or equal to 2 (got '1'); "
        "train.steps: Input should be greater than or equal to 1 (got '-1'); "
        "unknown key train.spets; "
        "device: Input should be 'auto', 'cpu' or 'cuda' (got '7')",
    ),
    "too many to tell": (
        "{" + ", ".join(f"k{i}: 0" for i in range(11)) + "}",
        "; ".join(f"unknown key k{i}" for i in range(8)) + "; and 3 more",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_refused_is_told_exactly(path, case):
    text, message = REFUSED[case]
    assert refused(path, text) == message + SEE


NOT_YAML = {
    "unclosed": "task: {",
    "tab": "task:\n\tnumbers: 3",
    "two documents": "task: {}\n---\ntask: {}",
    "control character": "device: \x01",
    "unhashable key": "? [a]\n: 1",
    "no boolean": "device: !!bool x",
    "empty integer": "device: !!int ''",
    "no timestamp": "device: !!timestamp x",
    "too deep": "[" * 5000,
    "unknown anchor": "device: *a",
    "a key twice": "device: cpu\ntrain: {steps: 3}\ndevice: cuda",
    "a key twice inside": "train: {steps: 3, 'steps': 4}",
    "merges without end": "\n".join(
        ["a0: &a0 {" + ", ".join(f"k{i}: 0" for i in range(10)) + "}"]
        + [f"a{i}: &a{i} {{<<: [{', '.join([f'*a{i - 1}'] * 10)}]}}" for i in range(1, 12)]
    ),
}


@pytest.mark.parametrize("case", NOT_YAML)
def test_text_that_is_no_yaml_is_named(path, case):
    message = refused(path, NOT_YAML[case])
    assert message.startswith(f"{path} is not valid YAML (")
    assert message.endswith("); mend it, or start from what `devsort config` prints")


def test_a_key_that_is_there_twice_is_told_with_its_place(path):
    message = refused(path, "train:\n  steps: 5\n  steps: 6")
    assert "key 'steps' is there twice in \"<unicode string>\", line 3, column 3" in message
    told = "; quote it or write a plain value"
    assert refused(path, "", "train={steps: 1, steps: 2}").endswith(
        f"the value is not valid YAML{told}"
    )


def test_a_merge_may_repeat_a_key(path):
    path.write_text("heads: {<<: &a {seed: 7, bootstrap: 3}, seed: 8}\nstages: {<<: *a, seed: 5}")
    config = load_config(path)
    assert (config.heads.seed, config.heads.bootstrap) == (8, 3)
    assert (config.stages.seed, config.stages.bootstrap) == (5, 3)


def test_a_config_that_cannot_be_one_is_not_parsed(path):
    told = f"{path} is larger than 100,000 bytes; see `devsort config` for what it holds"
    assert refused(path, "# " + "x" * 100_000) == told


def test_a_file_that_is_no_mapping_is_named(path):
    expected = f"{path} holds a list, expected a mapping of sections; see `devsort config`"
    assert refused(path, "[task, train]") == expected


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(UserError) as e:
        load_config(tmp_path / "config.yaml")
    fix = "name a run folder, or make one with `devsort init FOLDER`"
    assert str(e.value) == f"{tmp_path}/config.yaml does not exist; {fix}"


def test_a_folder_and_bytes_that_are_no_text_cannot_be_read(tmp_path, path):
    with pytest.raises(
        UserError, match=rf"^{tmp_path} cannot be read \(.*Is a directory.*\); check the file$"
    ):
        load_config(tmp_path)
    assert re.fullmatch(
        rf"{path} cannot be read \(.*utf-8.*\); check the file", refused(path, b"device: \xff\xfe")
    )


@pytest.mark.parametrize(
    "tag", ["object/apply:os.system", "object/new:os.system", "name:os.system", "module:os"]
)
def test_tags_that_build_objects_are_refused_and_nothing_runs(path, tag):
    canary = path.with_name("canary")
    exploit = f"!!python/{tag} ['touch {canary}']"
    assert "could not determine a constructor for the tag" in refused(path, f"device: {exploit}")
    assert refused(path, "", f"device={exploit}").endswith(
        "the value is not valid YAML; quote it or write a plain value"
    )
    assert not canary.exists()
    yaml.unsafe_load(f"!!python/object/apply:os.system ['touch {canary}']")
    # the exploit works where tags are obeyed: the refusal above is not for a typing error
    assert canary.exists()


def test_a_value_of_a_few_aliases_that_stands_for_gigabytes_is_not_written_out(path):
    layers = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    layers += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 12)]
    message = refused(path, "\n".join([*layers, "device: *a11"]))
    assert len(message) < 1000
    assert message.startswith(
        "device: Input should be 'auto', 'cpu' or 'cuda' (got a list); unknown key a0; "
    )


def test_a_mapping_that_holds_itself_is_refused(path):
    assert refused(path, "&a {task: *a}") == "unknown key task.task" + SEE


@pytest.mark.parametrize(
    ("override", "read"),
    [
        ("train.steps=7", lambda c: c.train.steps == 7),
        ("train.lr=1e-4", lambda c: c.train.lr == 1e-4),
        ("train.steps=1e3", lambda c: c.train.steps == 1000),
        ("train.steps=0512", lambda c: c.train.steps == 512),
        ("train.steps=0x1F", lambda c: c.train.steps == 31),
        ("train.steps=1_000", lambda c: c.train.steps == 1000),
        ("model.layer_norm=no", lambda c: c.model.layer_norm is False),
        (" train.lr = 0.5 ", lambda c: c.train.lr == 0.5),
        ("model.layer_norm=false", lambda c: c.model.layer_norm is False),
        ("task.train_lists=null", lambda c: c.task.train_lists is None),
        ("llc.restrictions=[full, h0]", lambda c: c.llc.restrictions == ("full", "h0")),
        ("llc.sampler.num_chains=9", lambda c: c.llc.sampler.num_chains == 9),
        ("train={steps: 3}", lambda c: c.train.steps == 3),
        ("device=cpu", lambda c: c.device == "cpu"),
    ],
)
def test_overrides_are_parsed_as_yaml(path, override, read):
    path.write_text("train: {steps: 5, batch_size: 9}\ntask: {train_lists: 30}")
    assert read(load_config(path, (override,)))


def test_overrides_keep_the_rest_and_the_last_one_wins(path):
    path.write_text("train: {steps: 5, batch_size: 9}")
    train = load_config(path, ("train.steps=6", "train.lr=0.1", "train.steps=7")).train
    assert (train.steps, train.batch_size, train.lr) == (7, 9, 0.1)
    assert path.read_text() == "train: {steps: 5, batch_size: 9}"


EXAMPLE = "write for example --set train.steps=1000"
NO_YAML = "the value is not valid YAML; quote it or write a plain value"
NO_SECTION = "is not a section; see `devsort config --help`"
OVERRIDES = {
    "steps": f"--set 'steps' is not key=value; {EXAMPLE}",
    "=3": f"--set '=3' is not key=value; {EXAMPLE}",
    "train.steps=[": f"--set 'train.steps=[': {NO_YAML}",
    "device=!!bool x": f"--set 'device=!!bool x': {NO_YAML}",
    "train.steps.x=1": f"--set 'train.steps.x=1': steps {NO_SECTION}",
    "device.x=1": f"--set 'device.x=1': device {NO_SECTION}",
    "train.stesp=1": "unknown key train.stesp" + SEE,
    "train.steps=": "train.steps: Input should be a valid integer (got 'None')" + SEE,
    "train..steps=1": "unknown key train." + SEE,
    "a\nb=1": "unknown key a b" + SEE,
    "\x1b[31m=1": "unknown key \\x1b[31m" + SEE,
}


@pytest.mark.parametrize("override", OVERRIDES, ids=repr)
def test_a_wrong_override_is_told_exactly(path, override):
    assert refused(path, "train: {steps: 5}\ndevice: cpu", override) == OVERRIDES[override]


@quick
@given(st.binary(max_size=300))
def test_nothing_but_a_users_error_escapes_from_random_bytes(path, data):
    path.write_bytes(data)
    _loads_or_tells(path)


# pieces that YAML's grammar gives a meaning, so that random text gets past the first character
PIECES = [
    *("task", "train", "numbers", "steps", ": ", "\n", "  ", "{", "}", "[", "]", ",", "- ", "? "),
    *("&a ", "*a", "<<", "!!int ", "!!timestamp ", "!!binary ", "!!set ", "!!python/name:os "),
    *("''", '"\\ud800"', "0x", "1:99", ".inf", "1e999", "|", ">", "#", "~"),
]


@quick
@given(st.lists(st.sampled_from(PIECES), max_size=25).map("".join))
def test_nothing_but_a_users_error_escapes_from_yaml_like_text(path, text):
    path.write_text(text)
    _loads_or_tells(path)


@quick
@given(
    st.one_of(
        st.text(max_size=40),
        st.lists(st.sampled_from([*PIECES, "=", ".", "device"]), max_size=12).map("".join),
    )
)
def test_nothing_but_a_users_error_escapes_from_overrides(path, override):
    path.write_text("train: {steps: 5}")
    _loads_or_tells(path, override)


leaves = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)
values = st.recursive(
    leaves, lambda v: st.lists(v, max_size=3) | st.dictionaries(st.text(max_size=5), v, max_size=3)
)
keys = st.sampled_from([name for section in sections() for name in section.model_fields])


@quick
@given(st.dictionaries(keys, values | st.dictionaries(keys, values, max_size=3), max_size=4))
def test_nothing_but_a_users_error_escapes_from_any_value_at_any_key(data):
    try:
        config = parse_config(data, "here")
    except UserError as e:
        assert str(e).startswith("here: ")
        assert len(str(e).splitlines()) == 1
    else:
        # what is stored reads back the same
        assert parse_config(config.model_dump(mode="json"), "here") == config


def _loads_or_tells(path: Path, *overrides: str) -> None:
    try:
        assert isinstance(load_config(path, overrides), Config)
    except UserError as e:
        assert len(str(e).splitlines()) == 1
        str(e).encode("utf-8")
