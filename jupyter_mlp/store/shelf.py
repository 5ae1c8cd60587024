"""The shelf: every thing by kind, newest first, and by the words of its name - a page or a search reads an index, never a list.

    things   kind, name -> seq of its newest version, and the activity that made it
    words    kind, name -> the words it is found by ("dep_delay" by dep and delay, "DelayModel" by delay and model)

Kept as the records are written, like the counts. A run or a notebook's run stands here from its beginning, everything else
from the moment it was made.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from jupyter_mlp.core.entities import Activity
from jupyter_mlp.core.references import Ref
from jupyter_mlp.store.database import Connection

KINDS = ("table", "dataset", "recipe", "run", "model", "evaluation", "endpoint", "report", "snapshot", "verification", "pipeline")
_AT_ONCE = {"train": "run", "pipeline": "pipeline"}  # activities that are things by their own id
_MOST_WORDS, _LONGEST = 24, 60
_LOOKED_AT = 400  # of the newest that one word finds, before the other words are asked
_HIGHEST = "\U0010ffff"

_PUT = """
INSERT INTO things (kind, name, seq, activity) VALUES (:kind, :name, :seq, :activity)
ON CONFLICT (kind, name) DO UPDATE SET seq = excluded.seq, activity = excluded.activity WHERE things.seq <= excluded.seq
"""
_PUT_WORD = """
INSERT INTO words (kind, name, word, seq) VALUES (:kind, :name, :word, :seq)
ON CONFLICT (kind, name, word) DO UPDATE SET seq = excluded.seq WHERE words.seq < excluded.seq
"""
_PAGE = "SELECT kind, name, seq, activity FROM things WHERE kind = :kind {after} ORDER BY seq DESC, name DESC LIMIT :limit"
_AFTER = "AND (seq, name) < (:seq, :name)"
_EXACT = "SELECT name, seq FROM words WHERE kind = :kind AND word = :word ORDER BY seq DESC LIMIT :limit"
_BEGINS = """
SELECT name, seq FROM words WHERE kind = :kind AND word > :word AND word < :end ORDER BY word DESC, seq DESC LIMIT :limit
"""


class Thing(NamedTuple):
    """One name of a kind: the place of its newest version in the order of records, and the activity that made it."""

    kind: str
    name: str
    seq: int
    activity: str


def put(connection: Connection, activity: Activity) -> None:
    """Put on the shelf what an activity is or made; called in the transaction that writes its record."""
    named = [(ref.kind, ref.name) for ref in activity.made if ref.kind in KINDS and ref.kind not in _AT_ONCE.values()]
    if activity.kind in _AT_ONCE and not activity.facts.get("again"):
        named.append((_AT_ONCE[activity.kind], activity.id))
    for kind, name in dict.fromkeys(named):
        put_thing(connection, Thing(kind, name, activity.seq, activity.id), activity.name)


def put_thing(connection: Connection, thing: Thing, title: str | None) -> None:
    """Put one thing on the shelf, found by the words of its name and of its title."""
    connection.execute(_PUT, thing._asdict())
    found_by = {"kind": thing.kind, "name": thing.name, "seq": thing.seq}
    connection.execute_many(_PUT_WORD, [{**found_by, "word": word} for word in words_of(thing.name, title or "")])


def after_forgotten(connection: Connection, refs: Iterable[Ref]) -> None:
    """Take off the shelf what has no version any more; called after its edges were released, in the same transaction."""
    newest = "SELECT activity, seq FROM edges WHERE role = 'made' AND kind = :kind AND name = :name ORDER BY seq DESC LIMIT 1"
    for kind, name in dict.fromkeys((ref.kind, ref.name) for ref in refs):
        what = {"kind": kind, "name": name}
        left = connection.execute(newest, what)
        if left:
            connection.execute(
                "UPDATE things SET seq = :seq, activity = :activity WHERE kind = :kind AND name = :name", {**what, **dict(left[0])}
            )
        else:
            connection.execute("DELETE FROM things WHERE kind = :kind AND name = :name", what)
            connection.execute("DELETE FROM words WHERE kind = :kind AND name = :name", what)


def page(connection: Connection, kind: str, limit: int, after: tuple[int, str] | None = None) -> list[Thing]:
    """Return the newest things of a kind; `after` is the place (seq, name) of the last one on the page before."""
    place = {"seq": after[0], "name": after[1]} if after else {}
    rows = connection.execute(_PAGE.format(after=_AFTER if after else ""), {"kind": kind, "limit": limit, **place})
    return [Thing(**row) for row in rows]


def search(connection: Connection, kind: str, text: str, limit: int) -> list[Thing]:
    """Return the newest things of a kind that have a word beginning with each word of `text`.

    A word that many things have is looked for among its newest few hundred.
    """
    wanted = sorted(words_of(text), key=len, reverse=True)
    if not wanted:
        return []
    first, *others = wanted
    asked = {"kind": kind, "word": first, "end": first + _HIGHEST, "limit": _LOOKED_AT if others else limit}
    found: dict[str, int] = {}
    for sql in (_EXACT, _BEGINS):
        for row in connection.execute(sql, asked if ":end" in sql else {name: asked[name] for name in ("kind", "word", "limit")}):
            found[row["name"]] = max(int(row["seq"]), found.get(row["name"], 0))
    names = sorted(found, key=lambda name: found[name], reverse=True)
    if others:
        known = _words(connection, kind, names)
        names = [name for name in names if all(any(word.startswith(other) for word in known[name]) for other in others)]
    return _things(connection, kind, names[:limit])


def words_of(*texts: str) -> list[str]:
    """Return the words that texts are found by, in lower case: split at signs, and where small letters turn to capitals."""
    found: dict[str, None] = {}
    for text in texts:
        for part in re.findall(r"[^\W_]+", text):
            split = re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[^\WA-Z_]+", part)
            found.update(dict.fromkeys(word.lower()[:_LONGEST] for word in (part, *split)))
    return list(found)[:_MOST_WORDS]


def _words(connection: Connection, kind: str, names: Sequence[str]) -> Mapping[str, list[str]]:
    known: dict[str, list[str]] = {name: [] for name in names}
    marks, given = _marks(names)
    if names:
        for row in connection.execute(f"SELECT name, word FROM words WHERE kind = :kind AND name IN ({marks})", {"kind": kind, **given}):
            known[row["name"]].append(row["word"])
    return known


def _things(connection: Connection, kind: str, names: Sequence[str]) -> list[Thing]:
    if not names:
        return []
    marks, given = _marks(names)
    # Sorted here: asked for an order, SQLite walks the whole kind by age instead of looking up a few names.
    sql = f"SELECT kind, name, seq, activity FROM things WHERE kind = :kind AND name IN ({marks})"
    found = [Thing(**row) for row in connection.execute(sql, {"kind": kind, **given})]
    return sorted(found, key=lambda thing: (thing.seq, thing.name), reverse=True)


def _marks(values: Sequence[str]) -> tuple[str, dict[str, Any]]:
    given = {f"n{at}": value for at, value in enumerate(values)}
    return ", ".join(f":{name}" for name in given), given


def fill(connection: Connection) -> None:
    """Put everything on the shelf that was recorded before there was one."""
    made = "SELECT e.kind, e.name, e.seq, e.activity, a.name AS title FROM edges e JOIN activities a ON a.id = e.activity"
    begun = "SELECT kind, id AS name, seq, id AS activity, name AS title, facts FROM activities"
    marks, given = _marks([kind for kind in KINDS if kind not in _AT_ONCE.values()])
    for row in connection.execute(f"{made} WHERE e.role = 'made' AND e.kind IN ({marks}) ORDER BY e.seq", given):
        put_thing(connection, Thing(row["kind"], row["name"], row["seq"], row["activity"]), row["title"])
    for row in connection.execute(f"{begun} WHERE kind IN ('train', 'pipeline') AND state <> 'forgotten' ORDER BY seq"):
        if '"again"' not in row["facts"]:
            put_thing(connection, Thing(_AT_ONCE[row["kind"]], row["name"], row["seq"], row["activity"]), row["title"])
