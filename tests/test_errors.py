"""A user's error is one line: what, where, and what to do."""

import pytest

from devsort.errors import Interrupted, UserError, interruptible, one_line, saying


def test_message_is_what_and_fix():
    e = UserError("runs/x is missing", "run `devsort train runs/x`")
    assert str(e) == "runs/x is missing; run `devsort train runs/x`"
    assert (e.what, e.fix) == ("runs/x is missing", "run `devsort train runs/x`")


def test_message_without_a_fix_has_no_semicolon():
    assert str(UserError("nothing to do")) == "nothing to do"


@pytest.mark.parametrize(
    "space", ["\n", "\r\n", "\t", "\v", "\f", "\x1c", "\x85", "\u2028", "\u2029", "  "]
)
def test_white_space_of_any_kind_is_folded(space):
    message = str(UserError(f"a{space}b", f"c{space}d"))
    assert message == "a b; c d"
    assert len(message.splitlines()) == 1


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[31mred", "\\x1b[31mred"),
        ("nul\0", "nul\\x00"),
        ("\udc80", "\\udc80"),
        ("\u202eevil", "\\u202eevil"),
    ],
)
def test_what_a_terminal_would_act_on_is_escaped(text, shown):
    assert one_line(text) == shown
    one_line(text).encode("utf-8")


def test_letters_of_any_language_stay():
    assert one_line("δ̄ größer 数字 λ̂") == "δ̄ größer 数字 λ̂"


def test_an_interruption_says_what_is_saved():
    with pytest.raises(Interrupted) as e, saying(lambda: "half is saved"):
        raise Interrupted(15)
    assert (e.value.signum, e.value.saved) == (15, "half is saved")
    assert Interrupted(2).saved == "finished work is saved"


def swallowing():
    """As a library does that calls Python from compiled code."""
    try:
        Interrupted.heard.append(15)
        raise Interrupted(15)
    except Interrupted:
        return


def replacing():
    swallowing()
    raise ValueError("the shape cannot be told")


@pytest.mark.parametrize("library", [swallowing, replacing])
def test_an_interruption_that_a_library_swallows_is_raised(monkeypatch, library):
    monkeypatch.setattr(Interrupted, "heard", [2])  # an earlier one changes nothing
    with interruptible():
        pass
    with pytest.raises(ValueError, match="its own"), interruptible():
        raise ValueError("its own")
    with pytest.raises(Interrupted) as e, interruptible():
        library()
    assert e.value.signum == 15


def test_no_handler_of_errors_swallows_an_interruption():
    assert not issubclass(Interrupted, Exception)
