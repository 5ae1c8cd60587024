"""`mlp VERB ...`: the same verbs on the command line. Exit status 1 when a verb fails, 2 when it was typed wrong."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from typing import Any

from jupyter_mlp.core.errors import InvalidInputError, MLPError, nearest
from jupyter_mlp.frontends.arguments import Context, HelpAsked, Verb, parse
from jupyter_mlp.frontends.folder import said_when_gone
from jupyter_mlp.frontends.progress import Bar, in_terminal
from jupyter_mlp.frontends.verbs import VERBS


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one verb; return the exit status."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    as_json = "--json" in words
    words = [word for word in words if word != "--json"]
    if not words or words[0] in ("-h", "--help", "help"):
        _say(_overview())
        return 0
    if words[0] == "--version":
        from jupyter_mlp import __version__

        _say(__version__)
        return 0
    try:
        verb = _verb(words[0])
        given = parse(verb, words[1:], f"mlp {verb.name}")
    except HelpAsked as asked:
        _say(asked.message)
        return 0
    except MLPError as error:
        return _refuse(error, 2)
    return _call(verb, given, as_json)


def _call(verb: Verb, given: Any, as_json: bool) -> int:
    bars: list[Bar] = []

    def progress(title: str) -> Bar:
        bars.append(in_terminal(title))
        return bars[-1]

    try:
        with said_when_gone():
            result = verb.call(given, Context(progress=progress))
    except MLPError as error:
        return _refuse(error, 1)
    except KeyboardInterrupt:
        print("Interrupted.", file=sys.stderr)
        return 130
    finally:
        for bar in bars:
            bar.close()
    _show(result, as_json)
    return 0 if getattr(result, "ok", True) else 1


def _show(result: Any, as_json: bool) -> None:
    if as_json and hasattr(result, "to_dict"):
        _say(json.dumps(result.to_dict(), indent=2, ensure_ascii=False, default=str))
    else:
        _say(result if isinstance(result, str) else repr(result))


def _say(text: str) -> None:
    """Print; whoever reads may have read enough, as in `mlp doctor | head`."""
    try:
        print(text, flush=True)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # Python writes what is left at its end


def _verb(name: str) -> Verb:
    found = next((verb for verb in VERBS if verb.name == name), None)
    if found is None:
        raise InvalidInputError(f"mlp has no verb {name!r}.", nearest(name, [verb.name for verb in VERBS]) + " mlp --help lists all.")
    return found


def _overview() -> str:
    width = max(len(verb.name) for verb in VERBS)
    lines = ["mlp VERB ... : the verbs of jupyter_mlp on the command line", ""]
    lines += [f"  {verb.name:<{width}}  {verb.summary}" for verb in VERBS]
    return "\n".join([*lines, "", "mlp VERB --help shows what a verb takes; --json prints what programs need."])


def _refuse(error: MLPError, status: int) -> int:
    print(str(error), file=sys.stderr)
    return status


if __name__ == "__main__":
    sys.exit(main())
