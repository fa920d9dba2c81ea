"""The command: what it runs, what it prints, when it fails."""

import json
import math
import re

import pytest

from devsort import cli
from devsort.errors import UserError
from devsort.validation import validate
from devsort.validation.cases import Case, all_cases, settings
from devsort.validation.measurements import Measured
from devsort.validation.quadrature import Truth


def case(estimate=1.0, se=0.01, true=1.0, error=0.0, **more):
    return Case(
        "toy",
        "a toy",
        lambda: Truth(true, error),
        lambda: Measured(estimate, se),
        0.02,
        slack=0.005,
        **more,
    )


@pytest.mark.parametrize(
    ("given", "ok"),
    [
        (case(), True),
        (case(estimate=1.084), True),  # 4 · 0.02 + 0.005 = 0.085
        (case(estimate=1.086), False),
        (case(estimate=0.914), False),
        (case(se=0.021), False),  # too noisy to tell
        (case(se=0.0), False),
        (case(se=math.nan), False),
        (case(estimate=math.nan), False),
        (case(estimate=math.inf), False),
        (case(error=0.006), False),  # the truth itself is not known well enough
    ],
)
def test_a_case_holds_within_its_fixed_tolerance_only(given, ok):
    row = validate.check(given)
    assert row["ok"] is ok
    json.dumps(row, allow_nan=False)


def test_names_are_unique_and_fit_a_shell():
    names = [c.name for c in all_cases()]
    assert len(set(names)) == len(names)
    assert all(re.fullmatch(r"[a-z0-9.-]+", name) for name in names)


def test_every_kind_of_known_answer_has_a_case():
    kinds = (
        "step",
        "burn-in",
        "minibatch",
        "power",
        "crossing",
        "rank-regression",
        "deep-linear",
        "additivity",
    )
    assert all(any(kind in c.name for c in all_cases()) for kind in kinds)


def test_tolerances_are_sharp():
    # nobody widens a bound unnoticed: within 15 % of the truth everywhere, within 5 % for most
    relative = [
        c.tolerance / c.truth().value
        for c in all_cases()
        if c.name.startswith(("small", "large", "spec", "power"))
    ]
    assert max(relative) < 0.15 and sorted(relative)[len(relative) // 2] < 0.05


def test_the_choice_of_cases():
    everything, fast = validate.chosen(), validate.chosen(fast=True)
    assert len(fast) < len(everything) and all(c.fast for c in fast)
    assert [c.name for c in validate.chosen(["prior", "large-step", "prior"])] == [
        "prior",
        "large-step",
    ]


def test_an_unknown_case_is_told_with_the_known_ones():
    with pytest.raises(UserError) as error:
        validate.chosen(["small-step", "smal-step"])
    assert str(error.value).startswith(
        "there is no case 'smal-step'; choose from: small-step, large-step, "
    )


@pytest.mark.slow
@pytest.mark.parametrize("fast", validate.chosen(fast=True), ids=lambda found: found.name)
def test_a_fast_case_holds(fast):
    row = validate.check(fast)
    assert row["ok"], row


def run(capsys, *argv):
    with pytest.raises(SystemExit) as stop:
        cli.main(["validate", *argv])
    captured = capsys.readouterr()
    return stop.value.code, captured.out, captured.err


def test_json_is_one_object_with_the_promised_keys(capsys):
    code, out, _ = run(capsys, "--case", "burn-in-cut", "--json")
    value = json.loads(out)
    assert code == 0 and value["ok"] is True
    (row,) = value["cases"]
    assert {"case", "true", "estimate", "se", "ok", "z", "tolerance", "seconds"} <= set(row)
    assert row["case"] == "burn-in-cut" and row["true"] == pytest.approx(6.465, abs=1e-3)


def test_a_failure_is_exit_code_1_and_named(capsys, monkeypatch):
    toys = [
        case(),
        Case(
            "dead", "died", lambda: Truth(2.0), lambda: Measured(math.nan, math.nan), 0.1, limit=3.0
        ),
    ]
    monkeypatch.setattr(validate, "all_cases", lambda: toys)
    code, out, err = run(capsys)
    lines = [line.split() for line in out.splitlines()]
    assert code == 1 and "Traceback" not in err
    assert lines[0] == ["case", "λ", "true", "estimate", "se", "z", "tolerance", "seconds"]
    assert lines[1][0] == "toy" and lines[1][-1] == "passes"
    assert lines[2][:6] == ["dead", "3.0000", "2.0000", "–", "–", "–"] and lines[2][-1] == "FAILS"
    assert out.splitlines()[-1].startswith("1 of 2 cases FAIL")


def test_an_unknown_case_is_exit_code_2(capsys):
    code, out, err = run(capsys, "--case", "nope")
    assert (code, out) == (2, "") and err.startswith("devsort: error: there is no case 'nope'")


def test_settings_come_in_the_order_of_the_tables():
    config = settings(50, 2, 1e-3, num_chains=7)
    assert (config.n_beta, config.localization, config.lr, config.num_chains) == (50, 2, 1e-3, 7)
