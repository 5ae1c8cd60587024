"""Lines of magics and of the command line: typed values, and two lines for every mistake."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from jupyter_mlp.core.errors import InvalidInputError, MLPError
from jupyter_mlp.frontends import cli
from jupyter_mlp.frontends.arguments import HelpAsked, assignments, parse
from jupyter_mlp.frontends.verbs import VERBS

BY_NAME = {verb.name: verb for verb in VERBS}


def test_values_are_typed() -> None:
    given = assignments(["a=1", "b=2.5", "c=text", "d=[1, 2]", "e=None", "f=2013-01-01", "g"], {"g": {"x": 1}}, "-p")
    assert given == {"a": 1, "b": 2.5, "c": "text", "d": [1, 2], "e": None, "f": "2013-01-01", "g": {"x": 1}}


@pytest.mark.parametrize("word", ["1a=2", "x y=1", "=1", "missing"])
def test_names_are_checked(word: str) -> None:
    with pytest.raises(InvalidInputError) as error:
        assignments([word], {}, "-p")
    assert "-p" in error.value.hint


@pytest.mark.parametrize(
    ("verb", "line", "said"),
    [
        ("train", "Net --data t --gpu 2", "Did you mean --gpus?"),
        ("train", "Net --data t --gpus 0", "0 is below 1"),
        ("train", "Net --data t --gpus -1", "--gpus"),
        ("train", "Net --data t --gpus banana", "invalid whole number value: 'banana'"),
        ("evaluate", "Net", "--data"),
        ("train", "Net --data t --task guess", "regression"),
        ("deploy", "m --to e --traffic 101", "101 is not from 0 to 100"),
        ("deploy", "m --to e --port 99999", "99999"),
        ("data", "trips 'open", "Close the quotation"),
        ("table", "lake.x", "source"),
    ],
)
def test_wrong_lines(verb: str, line: str, said: str) -> None:
    with pytest.raises(InvalidInputError) as error:
        parse(BY_NAME[verb], line, f"%mlp_{verb}")
    assert said in str(error.value)
    assert len(str(error.value).splitlines()) == 2


@pytest.mark.parametrize("verb", list(BY_NAME))
def test_every_verb_has_help(verb: str) -> None:
    with pytest.raises(HelpAsked) as asked:
        parse(BY_NAME[verb], "--help", f"%mlp_{verb}")
    assert BY_NAME[verb].summary.split()[0] in asked.value.message


def test_unknown_verb_on_the_command_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["trian"]) == 2
    assert "Did you mean train?" in capsys.readouterr().err


def test_overview(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([]) == 0
    text = capsys.readouterr().out
    assert all(verb in text for verb in BY_NAME)


def test_errors_travel_between_processes() -> None:
    import pickle

    error = pickle.loads(pickle.dumps(InvalidInputError("what", "type this")))
    assert isinstance(error, MLPError) and (error.message, error.hint) == ("what", "type this")


def test_who_reads_may_have_read_enough() -> None:
    """`mlp --help | head`: no error is shown where the reader has closed the pipe."""
    reads, writes = os.pipe()
    os.close(reads)
    code = "from jupyter_mlp.frontends import cli; raise SystemExit(cli.main(['--help']))"
    try:
        done = subprocess.run([sys.executable, "-c", code], stdout=writes, stderr=subprocess.PIPE, text=True)
    finally:
        os.close(writes)
    assert (done.returncode, done.stderr) == (0, "")
