"""The files that a notebook names in its cells, what they hold, and which of them are not what they were.

Files that are called like secrets are left out: who has the hash of a short one can guess what it holds.
"""

from __future__ import annotations

import ast
import glob
import hashlib
import os
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from itertools import islice
from pathlib import Path

from jupyter_mlp.notebook.document import CodeCell

_MOST = 1_000  # files of a folder that is named
_HASHED = 2 * 2**30  # bytes of a notebook's files that are read; of what is left only the size is noted
_SIZE = " bytes"
_MAGICS = ("run_line_magic", "run_cell_magic")
_LONGEST = 1_000  # characters of what can be a path
_SECRET = re.compile(r"(?i)pass(?:w|$)|passphrase|secret|token|credential|\.(?:env|pem|key|netrc|pgpass)$|id_(?:rsa|ed25519)|_key\b")


def contents(cells: Sequence[CodeCell], given: Mapping[str, object], folder: Path) -> dict[str, str]:
    """Return the files that cells and parameters name, as they name them, with a hash of what each holds.

    A folder stands for the files in it, `f"data/{month}.csv"` for whatever fits.
    """
    texts = {one for cell in cells for one in texts_in(cell.python)} | {one for one in given.values() if isinstance(one, str)}
    names = dict.fromkeys(name for text in sorted(texts) for name in islice(_matching(text, folder), _MOST) if not _SECRET.search(name))
    found: dict[str, str] = {}
    left = _HASHED
    for name in names:
        path = folder / os.path.expanduser(name)
        size = _size(path)
        left -= size or 0
        if (state := _state(path, hashed=left >= 0)) is not None:
            found[name] = state
    return dict(sorted(found.items()))


def changed(before: Mapping[str, str], folder: Path) -> dict[str, str]:
    """Return the files that are not what they were, each with a sentence about it."""
    now = {name: _state(folder / os.path.expanduser(name), hashed=not state.endswith(_SIZE)) for name, state in before.items()}
    return {
        name: f"{name} is {'missing' if now[name] is None else 'not what it was'}" for name, state in before.items() if now[name] != state
    }


def named_in(python: str, names: Collection[str]) -> list[str]:
    """Return which of these files a cell names."""
    texts = set(texts_in(python)) if names else set()
    return [name for name in names if any(_fits(name, text) for text in texts)]


def _fits(name: str, text: str) -> bool:
    return name == text or name.startswith(text.rstrip("/") + "/") or ("*" in text and fnmatchcase(name, text))


def _matching(text: str, folder: Path) -> Iterator[str]:
    """The files that a text names, as names that begin like the text."""
    if not text.strip() or len(text) > _LONGEST or "\n" in text or "\0" in text or not text.strip("*?/. "):
        return
    path = folder / os.path.expanduser(text)
    if os.path.isfile(path):
        yield text
    elif os.path.isdir(path):
        if folder.resolve() in path.resolve().parents:  # `/home` or `..` would be everything
            yield from (f"{text.rstrip('/')}/{one.relative_to(path)}" for one in path.rglob("*") if one.is_file())
    elif "*" in text:
        yield from (one for one in glob.iglob(text, root_dir=folder) if os.path.isfile(folder / one))


def _size(path: Path) -> int | None:
    try:
        return path.stat().st_size if path.is_file() else None
    except (OSError, ValueError):  # ValueError: a name that no file can have
        return None


def _state(path: Path, *, hashed: bool) -> str | None:
    size = _size(path)  # a device or a pipe is no file, and would never end
    if size is None or not hashed:
        return None if size is None else f"{size}{_SIZE}"
    try:
        with path.open("rb") as handle:
            return hashlib.file_digest(handle, "sha256").hexdigest()
    except OSError:
        return None


def texts_in(python: str) -> Iterator[str]:
    """Yield the texts in a cell and the words of its magics' lines; of a text that is put together, `*` stands for what is put in."""
    try:
        tree = ast.parse(python)
    except SyntaxError:
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value
        elif isinstance(node, ast.JoinedStr):
            parts = [str(one.value) if isinstance(one, ast.Constant) else "*" for one in node.values]
            yield "".join(parts)
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in _MAGICS:
            yield from (word for one in node.args[1:2] if isinstance(one, ast.Constant) for word in str(one.value).split())
