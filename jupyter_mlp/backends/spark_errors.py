"""What Spark refuses, in one sentence with its error class and its place in the text."""

from __future__ import annotations

import re
from typing import Any

from jupyter_mlp.core.errors import InvalidInputError, JobError


def refusal(error: Exception, sql: str = "") -> Exception:
    """Return what Spark says of `sql` as an InvalidInputError; an error that is not Spark's as it is."""
    from pyspark.errors import PySparkException

    if not isinstance(error, PySparkException):
        return error
    sentence = re.split(r"\s*SQLSTATE:|\n\s*\n|\n==|\nJVM stacktrace|;\n", str(error).strip())[0].strip()
    sentence = re.sub(r"\s+", " ", re.sub(r"^\([\w.]+\)\s*", "", sentence))
    return InvalidInputError(sentence, condition=error.getCondition() or type(error).__name__, position=_position(error, sql))


def _position(error: Any, sql: str) -> tuple[int, int] | None:
    """Where in the text the matter lies; Spark's own "line, pos" is of the text after values took the place of their marks."""
    units = sql.encode("utf-16-le")  # Java counts these
    for context in error.getQueryContext():
        start, stop = context.startIndex(), context.stopIndex()
        if 0 <= start <= stop < len(units) // 2 and stop - start + 1 < len(units) // 2:
            before = units[: 2 * start].decode("utf-16-le", "ignore")
            return before.count("\n") + 1, len(before) - (before.rfind("\n") + 1) + 1
    found = re.search(r"\(?line (\d+),? (pos|position) (\d+)\)?", str(error))
    # Spark counts columns from 0 when it says "pos" and from 1 when it says "position".
    return (int(found[1]), int(found[3]) + (found[2] == "pos")) if found else None


def task_failure(error: Exception) -> Exception:
    """Return what failed in a Python task: an exception of the code as InvalidInputError, a task that was lost as JobError."""
    from pyspark.errors import PySparkException

    if not isinstance(error, PySparkException):
        return error
    lines = [line.strip() for line in str(error).splitlines()]
    raised = [place for place, line in enumerate(lines) if re.match(r"[\w.]+(Error|Exception|Interrupt|Exit): ", line)]
    if "Traceback (most recent call last):" in str(error) and raised:
        said, hint = lines[raised[-1]].split(": ", 1)[1], "".join(lines[raised[-1] + 1 : raised[-1] + 2])
        return InvalidInputError(said, "" if hint.startswith("SQLSTATE") else hint)
    lost = re.search(r"SparkException: (.*?)\.( |$)", str(error))
    return JobError(
        f"A task of Spark was lost: {lost[1] if lost else first_line(error)[:300]}.", "Run it again; mlp doctor shows how Spark is."
    )


def first_line(error: Exception) -> str:
    """Return the beginning of an error that goes on for pages; of one of gRPC, what it says in the middle of them."""
    details = getattr(error, "details", None)
    told = str(details() or "") if callable(details) else ""
    return (told.strip() or str(error).strip() or type(error).__name__).splitlines()[0]
