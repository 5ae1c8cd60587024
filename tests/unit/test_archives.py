"""Files that claim to be snapshots: each is refused within a second, and nothing is written anywhere."""

from __future__ import annotations

import dataclasses
import io
import json
import os
import random
import stat
import struct
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from jupyter_mlp.core.errors import InvalidInputError
from jupyter_mlp.store.archives import export, open_file
from jupyter_mlp.store.carried import gather
from jupyter_mlp.store.snapshots import Stored
from jupyter_mlp.store.workspace import Workspace

GOOD = Stored("study", b"{}", {"python": "3.11", "packages": {}}, {"helper.py": b"x = 1\n"}, {"table:lake.t": "1"})
NAMES = (
    "../evil", "/etc/evil", "..\\evil", "C:\\evil", "a/../../evil", "./evil", "evil\x00.txt", "~/.bashrc", "//host/evil",
    "manifest.json/../x",
    "MANIFEST.JSON", "con", "%2e%2e/evil", "a" * 300, "\u202eevil", "",
)  # fmt: skip


def packed(members: dict[str, bytes], attributes: dict[str, int] | None = None, method: int = zipfile.ZIP_DEFLATED) -> bytes:
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w", method) as archive:
        for name, data in members.items():
            info = zipfile.ZipInfo(name)
            info.compress_type, info.external_attr = method, (attributes or {}).get(name, 0o100600 << 16)
            archive.writestr(info, data)
    return held.getvalue()


def good() -> dict[str, bytes]:
    return {"manifest.json": GOOD.manifest, **GOOD.files}


def lying(draw: random.Random) -> dict[str, bytes]:
    """A manifest that says what no manifest says."""
    told: dict[str, Any] = json.loads(GOOD.manifest)
    field = draw.choice(["notebook", "environment", "modules", "pins", "inputs", "format", "validity"])
    told[field] = draw.choice(
        [None, 7, [], {}, "0" * 64, "../../etc/passwd", {"../evil.py": "0" * 64}, {"/evil.py": told["notebook"]}, [[[]]]]
    )
    if isinstance(told[field], type(json.loads(GOOD.manifest)[field])) and field in ("pins", "inputs", "validity", "modules"):
        told["modules"] = {draw.choice(["../evil.py", "/evil.py", "a/../../b.py", "evil.pth", "x\\y.py"]): told["notebook"]}
    return {**good(), "manifest.json": json.dumps(told).encode()}


def hostile(draw: random.Random) -> Iterator[bytes]:
    """Archives without end, each kind in turn."""
    while True:
        yield packed({**good(), draw.choice(NAMES) or "?": b"evil"})
        name = draw.choice(list(GOOD.files))
        kind = draw.choice([stat.S_IFLNK, stat.S_IFDIR, stat.S_IFCHR, stat.S_IFIFO, stat.S_IFBLK, stat.S_IFSOCK])
        yield packed({**good(), name: b"/etc/passwd"}, {name: (kind | 0o777) << 16})
        yield packed({**good(), "f" * 64: b"\0" * draw.choice([2, 8]) * 2**20})
        yield packed(lying(draw))
        yield packed({**good(), name: good()[name] + b"x"})
        whole = packed(good())
        yield whole[: draw.randrange(len(whole))]
        at = draw.randrange(40, len(whole) - 60)
        yield whole[:at] + draw.randbytes(8) + whole[at + 8 :] + b""
        yield packed({**good(), **{f"{n:064x}": b"" for n in range(draw.choice([2500, 4000]))}})
        held = io.BytesIO(whole)
        with pytest.warns(UserWarning, match="Duplicate name"), zipfile.ZipFile(held, "a") as archive:
            archive.writestr("manifest.json", b"{}")
        yield held.getvalue()
        yield packed({**good(), "manifest.json": b"[" * draw.choice([10, 100_000])})
        yield draw.randbytes(draw.randrange(2000))
        end = whole.rfind(b"PK\x05\x06")
        yield whole[: end + 10] + struct.pack("<HI", 65_535, 0xFFFFFFF0) + whole[end + 16 :]


def tree(folder: Path) -> list[tuple[str, int]]:
    return sorted((str(path), path.stat().st_size) for path in folder.rglob("*"))


def test_300_hostile_archives_are_refused_at_once_and_write_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    draw = random.Random(11)
    source = hostile(draw)
    path = tmp_path / "given.mlp"
    slowest = taken = 0.0
    hints: list[str] = []
    for number in range(300):
        path.write_bytes(next(source))
        before = tree(tmp_path)
        begun = time.perf_counter()
        try:
            opened = open_file(path).snapshot
        except InvalidInputError as error:
            hints.append(error.hint)
        else:
            assert number % 12 == 6 and opened.ref == GOOD.ref, f"number {number} was taken"  # flipped bytes that nothing reads
            taken += 1
        slowest = max(slowest, time.perf_counter() - begun)
        assert tree(tmp_path) == before
    assert slowest < 1.0 and taken < 25 and all(hints)
    assert not (tmp_path / "evil").exists() and os.listdir(tmp_path / "here") == []


NONE = ({}, {"packages": {}}, {"python": "3.11"}, *({"python": "3.11", "packages": {}} | one for one in (
    {"python": 3}, {"packages": 7}, {"packages": {"six": 1}}, {"builds": []}, {"origins": {"x": 1}}, {"gpus": [1]},
)))  # fmt: skip


@pytest.mark.parametrize("environment", NONE)
def test_an_environment_that_is_none_is_refused(tmp_path: Path, environment: dict[str, Any]) -> None:
    given = export(dataclasses.replace(GOOD, environment=environment), tmp_path / "lying.mlp")
    with pytest.raises(InvalidInputError, match="not a snapshot"):
        open_file(given)


def test_what_was_exported_is_opened(tmp_path: Path) -> None:
    assert open_file(export(GOOD, tmp_path / "study.mlp")).snapshot.ref == GOOD.ref


def test_moving_data_in_and_out_says_how_far_it_is(workspace: Workspace, tmp_path: Path) -> None:
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "large.bin").write_bytes(random.Random(1).randbytes(5 * 2**20 // 2))
    told: list[dict[str, Any]] = []
    data, sources = gather(workspace, [], {"large.bin": ""}, tmp_path / "here", told.append)
    assert [one["text"] for one in told] == ["reading 1.0 MB", "reading 2.1 MB", "reading 2.6 MB"]
    told.clear()
    export(GOOD, tmp_path / "study.mlp", data, sources, told.append)
    assert [one["text"] for one in told] == ["writing 1.0 MB of 2.6 MB", "writing 2.1 MB of 2.6 MB", "writing 2.6 MB of 2.6 MB"]
    told.clear()
    open_file(tmp_path / "study.mlp").unpack(workspace, tmp_path / "there", told.append)
    assert [round(one["share"], 2) for one in told] == [0.4, 0.8, 1.0] and told[0]["text"].startswith("unpacking 1.0 MB of")
    assert (tmp_path / "there" / "large.bin").read_bytes() == (tmp_path / "here" / "large.bin").read_bytes()
