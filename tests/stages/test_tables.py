"""Tables from anywhere: read as they are meant, repaired with a note, or refused in one line."""

from pathlib import Path

import pytest
from folders import told

from devsort.stages import read_csv
from devsort.stages.columns import KNOWN

NAME_THEM = "name them in the first line, or choose with --columns, as in --columns 'step=NAME"
DOCS = Path(__file__).parents[2] / "docs"


def written(tmp_path, text):
    path = tmp_path / "t.csv"
    path.write_text(text, encoding="utf-8")
    return path


def test_reads_columns_in_any_order_and_ignores_others(tmp_path):
    t = read_csv(
        written(tmp_path, "loss,Step,name,se,llc\n3,1,a,1,10\n2,10,b,2,20\n1,100,c,3,30\n")
    )
    assert t.step.tolist() == [1, 10, 100] and t.llc.tolist() == [10, 20, 30]
    assert t.se.tolist() == [1, 2, 3] and t.loss.tolist() == [3, 2, 1] and t.notes == ()


def test_unsorted_rows_and_nans_are_repaired_and_told(tmp_path):
    t = read_csv(written(tmp_path, "step,llc,se\n100,30,3\n1,10,1\n10,nan,2\n1000,40,\n5,15,0\n"))
    assert t.step.tolist() == [1, 5, 100, 1000]
    assert t.se.tolist() == [1, 2, 3, 2]  # the median of 1 and 3 where there is none
    assert t.notes == (
        "1 rows without a finite llc were left out",
        "rows were sorted by step",
        "2 points without a positive se were given the median of the others",
    )


def test_an_error_below_the_rounding_of_the_values_is_none(tmp_path):
    t = read_csv(written(tmp_path, "step,llc,se\n1,10,1e-200\n2,20,3\n3,30,3\n"))
    assert t.se.tolist() == [3, 3, 3] and t.notes == (
        "1 points without a positive se were given the median of the others",
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("step,llc,se\n1,10,1\n", "has 1 points, expected 3 or more; add points"),
        ("", f"has no column step and no llc (got nothing); {NAME_THEM} llc=NAME'"),
        ("time,llc\n1,2\n", f"has no column step (got time, llc); {NAME_THEM}'"),
        (
            "step,rlct\n1,2\n",
            "has no column llc (got step, rlct); "
            "name them in the first line, or choose with --columns, as in --columns 'llc=NAME'",
        ),
        (
            "step,llc,se\n1,1,1\n2,2,1\n2,3,1\n",
            ": step 2 occurs twice; keep one row per step, of one seed and one restriction",
        ),
        (
            "step,llc,se\n1,1,1\n2,high,1\n3,3,1\n",
            " line 3: llc is 'high', expected a number; correct the line",
        ),
        (
            "step,llc,se\n0.5,1,1\n2,2,1\n3,3,1\n",
            ": step 0.5 is not a finite number of at least 1; give steps from 1 on",
        ),
        (
            "step,llc,se\n1,1,1\n2,-1e150,1\n3,3,1\n",
            " line 3: llc is -1e+150, beyond 1e+12; correct the line",
        ),
        (
            "step,llc,se\n1,nan,1\n2,,1\n3,3,1\n",
            "has 3 rows, of which 1 can be used (2 without a finite llc); "
            "expected 3 or more; add checkpoints",
        ),
        (
            "step,llc,se\n1,1,1\n2,inf,1\n3,3,1\n",
            "has 3 rows, of which 2 can be used (1 without a finite llc); "
            "expected 3 or more; add checkpoints",
        ),
        (
            "step,llc_mean,llc_std\n0,-3.1,0.5\n100,2.5,0.4\n200,4.0,0.6\n",
            "has 3 rows, of which 2 can be used (1 at step 0, which has no logarithm); "
            "expected 3 or more; add checkpoints",
        ),
        (
            "step,llc\n0,1\n0,2\n5,nan\n6,2\n",
            "has 4 rows, of which 1 can be used (2 at step 0, which has no logarithm, "
            "1 without a finite llc); expected 3 or more; add checkpoints",
        ),
        (
            "step,llc,se\n1,1,1\n2,1e300,1\n3,3,1\n",
            " line 3: llc is 1e+300, beyond 1e+12; correct the line",
        ),
        (
            "step,llc,se\n,1,1\n2,2,1\n3,3,1\n",
            ": step nan is not a finite number of at least 1; give steps from 1 on",
        ),
    ],
)
def test_bad_files_are_refused_in_one_line(tmp_path, text, message):
    path = written(tmp_path, text)
    assert told(read_csv, path).removeprefix(str(path)).strip() == message.strip()


def test_a_file_that_would_take_for_ever_is_refused(tmp_path):
    path = written(tmp_path, "step,llc\n" + "".join(f"{i},1\n" for i in range(1, 2002)))
    many = f"{path} has 2001 points, expected 2000 or fewer; keep some, evenly spaced in log step"
    assert told(read_csv, path) == many
    with open(path, "r+b") as f:
        f.truncate(2**24 + 1)  # no byte of it is read
    fix = "keep only the columns step, llc, se and loss"
    assert told(read_csv, path) == f"{path} is larger than 16,777,216 bytes; {fix}"


def test_a_missing_and_a_binary_file_are_refused(tmp_path):
    path = tmp_path / "b.csv"
    fix = "give a CSV with the columns step, llc, se and optionally loss"
    assert told(read_csv, path) == f"{path} is missing; {fix}"
    path.write_bytes(b"\xff\x00\x01")
    message = told(read_csv, path)
    assert message.startswith(f"{path} is not a readable CSV (")
    assert message.endswith("); save it as UTF-8 text with commas")


def read(tmp_path, text: str, *columns: str, encoding: str = "utf-8"):
    path = tmp_path / "t.csv"
    path.write_text(text, encoding=encoding)
    return read_csv(path, columns)


# ---- the same three rows, as programs of other people write them

ROWS = [(1, 0.5, 1.5), (2, 3.25, 1.5), (4, 9.75, 1.5)]


def rows(separator: str, mark: str = ".", end: str = "") -> str:
    lines = [separator.join(str(x).replace(".", mark) for x in row) for row in ROWS]
    return "\n".join(line + end for line in lines)


FORMS = {
    "commas": "step,llc,se\n" + rows(","),
    "semicolons": "step;llc;se\n" + rows(";"),
    "semicolons and decimal commas": "step;llc;se\n" + rows(";", ","),
    "tabs and decimal commas": "step\tllc\tse\n" + rows("\t", ","),
    "bars": "step|llc|se\n" + rows("|"),
    "blanks": "step llc se\n" + rows("   "),
    "quoted decimal commas": 'step,llc,se\n1,"0,5","1,5"\n2,"3,25","1,5"\n4,"9,75","1,5"',
    "a byte-order mark": "\ufeffstep,llc,se\n" + rows(","),
    "two byte-order marks": "\ufeff\ufeffstep,llc,se\n" + rows(","),
    "a separator named as Excel does": "sep=;\nstep;llc;se\n" + rows(";", ","),
    "comments": "# of run 3\nstep,llc,se\n# begins here\n" + rows(","),
    "names in a comment, as numpy writes them": "# step llc se\n" + rows(" "),
    "blanks after commas": "step, llc, se\n" + rows(", "),
    "an empty column at the end": "step,llc,se,\n" + rows(",", end=","),
    "empty fields beyond the first line": "step,llc,se\n" + rows(",", end=",,"),
    "an index column": ",step,llc,se\n0,1,0.5,1.5\n1,2,3.25,1.5\n2,4,9.75,1.5",
    "Windows": "step,llc,se\r\n" + rows(",").replace("\n", "\r\n"),
    "blank lines": "\n\nstep,llc,se\n\n" + rows(",").replace("\n", "\n\n"),
}


@pytest.mark.parametrize("form", FORMS)
def test_forms_that_mean_the_same_are_read_the_same(tmp_path, form):
    t = read(tmp_path, FORMS[form])
    assert list(zip(t.step, t.llc, t.se, strict=True)) == ROWS and t.notes == ()


def test_the_unicode_text_of_a_spreadsheet_is_read(tmp_path):
    t = read(tmp_path, "step\tllc\tse\n" + rows("\t", ","), encoding="utf-16")
    assert t.llc.tolist() == [0.5, 3.25, 9.75]


MARK = "where the comma can be a decimal mark or separate thousands"
POINT = "where the point can be a decimal mark or separate thousands; write steps as whole numbers"
PLAIN = "write numbers with a decimal point and no other separator"
WIDTH = "give every row as many fields as the first line"
COMMAS = f"{WIDTH}; if commas are decimal marks, separate the fields by semicolons"
SHAPES = {
    "decimal commas between commas": (
        "step,llc,se\n1,0,5,1,5\n2,3,25,1,5\n4,9,75,1,5",
        f" line 2 has 5 fields, the first line has 3; {COMMAS}",
    ),
    "one row too long": (
        "step,llc\n1,2\n3,4,5\n6,7",
        f" line 3 has 3 fields, the first line has 2; {COMMAS}",
    ),
    "one row too long, semicolons": (
        "step;llc\n1;2\n3;4;5\n6;7",
        f" line 3 has 3 fields, the first line has 2; {WIDTH}",
    ),
    "one row too short": (
        "step,llc,se\n1,2,1\n3,4\n6,7,1",
        f" line 3 has 2 fields, the first line has 3; {WIDTH}",
    ),
    "another separator than the first line's": (
        "step,llc\n1;2\n3;4\n6;7",
        f" line 2 has 1 fields, the first line has 2; {WIDTH}",
    ),
    "thousands": (
        'step,llc\n"1,000",2\n"2,000",3\n"4,000",5',
        f" line 2: step is '1,000', {MARK}; {PLAIN}",
    ),
    "thousands between semicolons": (
        "step;llc\n1,000;2.5\n2,000;3.5\n4,000;5.5",
        f" line 2: step is '1,000', {MARK}; {PLAIN}",
    ),
    "thousands with points, decimal commas": (
        "step;llc\n1.000;2,5\n2.000;3,5\n4.000;5,5",
        f" line 2: llc is '2,5', {MARK}; {PLAIN}",
    ),
    "thousands with commas and points": (
        'step,llc\n"1,000.5",2\n2,3\n4,5',
        f" line 2: step is '1,000.5', {MARK}; {PLAIN}",
    ),
    "thousands with points": (
        "step;llc\n500;2\n1.000;3\n10.000;5",
        f" line 3: step is '1.000', {POINT}",
    ),
    "thousands with points alone": (
        "step\tllc\n1.000\t2.5\n2.000\t3.5\n4.000\t5",
        f" line 2: step is '1.000', {POINT}",
    ),
    "thousands with blanks": (
        "step;llc\n1 000;2\n2 000;3\n4 000;5",
        " line 2: step is '1 000', expected a number; correct the line",
    ),
    "a field over two lines": (
        'step,llc\n"1\n",2\n2,3\n4,5',
        " has a field over several lines; put each row on one line",
    ),
}


@pytest.mark.parametrize("shape", SHAPES)
def test_tables_of_a_wrong_shape_are_refused(tmp_path, shape):
    text, message = SHAPES[shape]
    assert told(read, tmp_path, text) == f"{tmp_path}/t.csv{message}"


# ---- columns

OF_WANDB = (
    '"Step","run - llc/mean","run - llc/mean__MIN","run - llc/mean__MAX","run - llc/std"\n'
    "0,9,9,9,1\n10,2,2,2,1\n20,3,3,3,1\n30,4,4,4,2"
)
AS_IT_IS = "was used as the standard error: give the number of chains, "


def test_an_export_of_wandb(tmp_path):
    t = read(tmp_path, OF_WANDB)
    assert (t.step.tolist(), t.llc.tolist(), t.se.tolist()) == ([10, 20, 30], [2, 3, 4], [1, 1, 2])
    assert t.notes == (
        "llc is the column 'run - llc/mean'",
        "std is the column 'run - llc/std'",
        f"the standard deviation 'run - llc/std' {AS_IT_IS}as in --columns chains=4",
        "1 rows at step 0 were left out, because it has no logarithm",
    )


def test_an_export_of_devinterp(tmp_path):
    text = "step,llc_mean,llc_std\n0,-3.1,0.5\n100,2.5,0.4\n200,4.0,0.6\n400,5,0.8\n"
    t = read(tmp_path, text, "chains=4")
    assert t.llc.tolist() == [2.5, 4, 5] and t.se.tolist() == [0.2, 0.3, 0.4]
    made = "the standard error is the standard deviation 'llc_std' divided by the square root"
    assert f"{made} of the number of chains (4)" in t.notes


def test_the_number_of_chains_can_be_a_column(tmp_path):
    t = read(tmp_path, "step,llc,std,num_chains\n1,1,2,4\n2,2,3,9\n3,3,4,16\n")
    assert t.se.tolist() == [1, 1, 1] and "(from the column 'num_chains')" in t.notes[-1]


@pytest.mark.parametrize("number", ["0", "-4", "2.5"])
def test_a_number_of_chains_that_is_none_is_refused(tmp_path, number):
    text = f"step,llc,std,chains\n1,1,2,4\n2,2,3,{number}\n3,3,4,16\n"
    expected = f"{tmp_path}/t.csv: {number} is not a number of chains; give 1 or more"
    assert told(read, tmp_path, text) == expected


def test_steps_with_three_decimals_are_read_where_one_shows_that_they_are(tmp_path):
    t = read(tmp_path, "step,llc\n1.000,2.000\n500.000,3.000\n1000.000,4.000\n")
    assert t.step.tolist() == [1, 500, 1000]


def test_a_standard_error_wins_over_a_standard_deviation(tmp_path):
    t = read(tmp_path, "step,llc,std,se\n1,1,2,4\n2,2,3,9\n3,3,4,16\n")
    assert t.se.tolist() == [4, 9, 16] and t.notes == ()


CHOICES = [("step=tokens", "llc=the llc", "se=err"), ("step=tokens llc=the llc se=err",),
           ("step=Tokens, llc=the llc", "se=err")]  # fmt: skip


@pytest.mark.parametrize("choice", CHOICES)
def test_columns_can_be_chosen(tmp_path, choice):
    t = read(tmp_path, "tokens,the llc,err,llc\n1,2,3,9\n2,3,4,9\n3,4,5,9\n", *choice)
    assert (t.llc.tolist(), t.se.tolist()) == ([2, 3, 4], [3, 4, 5])


def test_flags_are_read(tmp_path):
    text = 'step,llc,flags\n1,1,\n2,2,negative\n3,3,False\n4,4,1\n5,5,"a, b"\n6,6,[]\n'
    assert read(tmp_path, text).flagged.tolist() == [False, True, False, True, True, False]


CHOOSE = "choose with --columns, as in --columns "
COLUMNS = {
    "two runs of wandb": (
        ("Step,a - llc,b - llc\n",),
        " has more than one column for llc: a - llc, b - llc; " + CHOOSE + "'llc=a - llc'",
    ),
    "two names that are known": (
        ("step,llc_mean,lambdahat\n",),
        " has more than one column for llc: llc_mean, lambdahat; " + CHOOSE + "llc=llc_mean",
    ),
    "one name twice": (
        ("step,llc,LLC\n",),
        " has more than one column for llc: llc, LLC; rename or drop one of them",
    ),
    "a choice that is not there": (
        ("step,llc\n", "llc=rlct"),
        " has no column 'rlct' for llc (got step, llc); give a name from the first line",
    ),
    "two losses": (
        ("step,llc,val_loss,train_loss\n1,2,3,2\n",),
        " has more than one column for loss: val_loss, train_loss; " + CHOOSE + "loss=val_loss",
    ),
}


@pytest.mark.parametrize("case", COLUMNS)
def test_columns_that_are_not_clear_are_refused(tmp_path, case):
    arguments, message = COLUMNS[case]
    assert told(read, tmp_path, *arguments) == f"{tmp_path}/t.csv{message}"


def test_its_own_name_wins_and_that_is_told(tmp_path):
    t = read(tmp_path, "step,llc,llc_mean\n1,1,2\n2,2,3\n3,3,4\n")
    assert t.llc.tolist() == [1, 2, 3] and t.notes[0] == "llc is the column 'llc', not 'llc_mean'"


ROLES = "write ROLE=NAME with one of the roles step, llc, se, std, chains, loss, flag"


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("stp=x", f"--columns 'stp=x' is not understood; {ROLES}"),
        ("step", f"--columns 'step' is not understood; {ROLES}"),
        ("llc=", f"--columns 'llc=' is not understood; {ROLES}"),
        ("chains=0", "--columns chains=0 is not a number of chains; give 1 or more"),
    ],
)
def test_a_choice_that_is_not_understood(tmp_path, option, message):
    assert told(read, tmp_path, "step,llc\n1,1\n2,2\n3,3", option) == message


def test_the_documented_names_are_those_that_are_known():
    text = (DOCS / "stages.md").read_text()
    for role, names in KNOWN.items():
        assert f"| {role} | {', '.join(f'`{name}`' for name in names)} |" in text
