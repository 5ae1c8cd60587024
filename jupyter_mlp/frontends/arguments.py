"""One argument spec per verb, used by the magic and the command line alike.

Every option has the name of the keyword argument it becomes. Refusals are two lines and name the nearest option.
"""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, NoReturn

from jupyter_mlp.core.errors import InvalidInputError, MLPError, nearest
from jupyter_mlp.core.identity import literal


class Option(NamedTuple):
    """One argument: its flags or positional name, and what argparse needs to know."""

    flags: tuple[str, ...]
    help: str
    settings: Mapping[str, Any] = {}
    completes: str = ""  # kind of the names that TAB offers: dataset, table, recipe, model, endpoint, run, snapshot, cluster, file


class Context(NamedTuple):
    """Where a verb is called from.

    Attributes:
        cell: the body of a cell magic; None for a line magic.
        names: variables of the notebook; empty on the command line.
        progress: how long work is shown.
    """

    cell: str | None = None
    names: Mapping[str, Any] = {}
    progress: Callable[[str], Any] = lambda title: None
    bind: Callable[[str, Any], None] = lambda name, value: None


class Verb(NamedTuple):
    """A verb: its name, one line of help, its arguments, and the function that does it."""

    name: str
    summary: str
    options: tuple[Option, ...]
    call: Callable[[argparse.Namespace, Context], Any]
    magic: bool = True
    cell: bool = False
    example: str = ""


def option(*flags: str, help: str, completes: str = "", **settings: Any) -> Option:
    """Declare one argument of a verb."""
    return Option(flags, help, settings, completes)


def parse(verb: Verb, line: str | Sequence[str], program: str) -> argparse.Namespace:
    """Return the options of one call.

    Raises:
        InvalidInputError: an option or value is wrong; the hint names the nearest option or the values that work.
    """
    parser = _Parser(
        prog=program, description=verb.summary, epilog=verb.example and f"example: {verb.example}", add_help=False, allow_abbrev=False
    )
    parser.add_argument("-h", "--help", action="store_true", help="show this help")
    for one in verb.options:
        parser.add_argument(*one.flags, help=one.help, **one.settings)
    words = split(line) if isinstance(line, str) else list(line)
    options = words[: words.index("--")] if "--" in words else words  # what stands behind -- is a value, whatever it looks like
    if "-h" in options or "--help" in options:
        raise HelpAsked(parser.format_help().strip())
    return parser.parse_args(words)


def split(line: str) -> list[str]:
    """Split a magic's line as a shell splits words, without a shell."""
    try:
        return shlex.split(line)
    except ValueError as error:
        raise InvalidInputError(f"The line cannot be read: {error}.", "Close the quotation.") from error


def assignments(words: Sequence[str] | None, names: Mapping[str, Any], flag: str, typed: bool = True) -> dict[str, Any]:
    """Read `k=v` words into typed values; `k` alone takes the notebook variable of that name.

    A value is a Python literal where it reads as one (1, 2.5, True, None, [1, 2]), else text; not `typed`, it is text.
    """
    found: dict[str, Any] = {}
    for word in words or ():
        name, equals, text = word.partition("=")
        if not name.isidentifier():
            raise InvalidInputError(f"{word!r} does not set anything: {name!r} is no name.", f"Write {flag} name=value.")
        if equals:
            found[name] = literal(text) if typed else text
        elif name in names:
            found[name] = names[name]
        else:
            raise InvalidInputError(
                f"{flag} {name}: the notebook has no variable {name}.", f"Write {flag} {name}=VALUE, or set the variable first."
            )
    return found


def at_least(low: float, kind: type = int) -> Callable[[str], Any]:
    """Return a reader of numbers from `low` up, for argparse."""

    def read(text: str) -> Any:
        value = kind(text)
        if value < low:
            raise argparse.ArgumentTypeError(f"{text} is below {low}")
        return value

    read.__name__ = "whole number" if kind is int else "number"
    return read


def between(low: int, high: int) -> Callable[[str], int]:
    """Return a reader of whole numbers from `low` to `high`, for argparse."""

    def read(text: str) -> int:
        value = int(text)
        if not low <= value <= high:
            raise argparse.ArgumentTypeError(f"{text} is not from {low} to {high}")
        return value

    read.__name__ = "whole number"
    return read


class HelpAsked(MLPError):
    """--help was given: the message is the help."""


class _Parser(argparse.ArgumentParser):
    """argparse without exits and prints: what it finds wrong becomes an exception of two lines."""

    def error(self, message: str) -> NoReturn:
        known = [flag for action in self._actions for flag in action.option_strings if flag.startswith("--")]
        hint = f"{self.prog} --help shows what it takes."
        if message.startswith("unrecognized arguments:"):
            wrong = message.split(": ", 1)[1].split()[0]
            if wrong.startswith("-"):
                hint = nearest(wrong.split("=")[0], known) + " " + hint
        raise InvalidInputError(f"{self.prog}: {message}.", hint)

    def exit(self, status: int = 0, message: str | None = None) -> NoReturn:
        raise InvalidInputError(f"{self.prog}: {message or 'cannot go on'}", f"{self.prog} --help shows what it takes.")
