"""Whose models stay in memory: the order that all hosts come to, the setting, and how much memory processes take."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from jupyter_mlp.core import config, sizes
from jupyter_mlp.core.errors import InvalidInputError
from jupyter_mlp.serving import warmth
from jupyter_mlp.serving.warmth import COLD, LOADING, WARM, Budget, Report, Warmth
from jupyter_mlp.store.deployments import EndpointFolder
from jupyter_mlp.store.processes import Process

MB = 2**20
NOW = 1000.0


def report(name: str, used: float, state: str = WARM, memory: int = 100 * MB, stays: bool = False) -> Report:
    return Report(name, state, memory, 40 * MB, stays, used)


def test_all_stay_while_they_fit() -> None:
    all_of_them = [report("a", 1.0), report("b", 2.0), report("c", 3.0)]
    budget = Budget(420 * MB, 90.0)
    assert warmth.turn(all_of_them, budget, NOW) is None
    assert warmth.standing_by(all_of_them, budget) == {"a", "b", "c"}


def test_those_that_stand_by_go_before_any_model() -> None:
    all_of_them = [report("a", 1.0), report("b", 2.0), report("c", 3.0)]
    for memory, kept in ((419, {"b", "c"}), (340, {"c"}), (339, set()), (300, set())):
        budget = Budget(memory * MB, 90.0)
        assert warmth.standing_by(all_of_them, budget) == kept
        assert warmth.turn(all_of_them, budget, NOW) is None
    assert warmth.turn(all_of_them, Budget(299 * MB, 90.0), NOW) == "a"


def test_only_who_was_left_alone_long_enough_goes_and_the_longest_first() -> None:
    budget = Budget(150 * MB, 90.0)
    assert warmth.turn([report("a", 909.0), report("b", 905.0)], budget, NOW) == "b"
    assert warmth.turn([report("a", 911.0), report("b", 912.0)], budget, NOW) is None
    assert warmth.turn([report("b", 5.0), report("a", 5.0)], budget, NOW) == "a"  # all hosts agree where two are alike


def test_who_loads_or_has_to_stay_does_not_go() -> None:
    others = [report("a", 1.0, LOADING), report("b", 2.0, stays=True), report("c", 3.0, COLD), report("d", 4.0)]
    assert warmth.turn(others, Budget(150 * MB, 90.0), NOW) == "d"
    assert warmth.turn(others[:3], Budget(150 * MB, 90.0), NOW) is None
    assert "c" not in warmth.standing_by(others, Budget(5000 * MB, 90.0))


def test_hosts_hear_of_each_other_and_of_nobody_who_is_gone(tmp_path: Path) -> None:
    folders = [EndpointFolder(tmp_path / name) for name in ("a", "b", "c")]
    for folder in folders:
        folder.path.mkdir()
    advice = Warmth(folders[0]).look([os.getpid()], None, ready=True, stays=False)
    assert (advice.stands_by, advice.goes_cold) == (True, False)  # nobody set a budget
    assert not (folders[0].path / "warmth.json").exists()
    warmth.allow(tmp_path, Budget(1.0, 0.0))
    warmth.note_use(folders[1])
    for folder in folders[1:]:
        Warmth(folder).look([os.getpid()], None, ready=True, stays=False)
    advice = Warmth(folders[0]).look([os.getpid()], None, ready=True, stays=False)
    assert advice == (False, True)  # nobody ever asked a, nor c
    os.utime(folders[2].path / "warmth.json", (1.0, 1.0))
    assert [one.name for one in sorted(warmth.heard(tmp_path, time.time()))] == ["a", "b"]


def test_what_a_host_says_is_there_at_once_and_then_only_touched(tmp_path: Path) -> None:
    folder = EndpointFolder(tmp_path / "a")
    folder.path.mkdir()
    host = Warmth(folder)
    host.say(COLD)
    assert warmth.is_cold(folder)
    before = (folder.path / "warmth.json").stat()
    os.utime(folder.path / "warmth.json", (1.0, 1.0))
    host.say(COLD)
    after = (folder.path / "warmth.json").stat()
    assert after.st_ino == before.st_ino
    assert after.st_mtime > time.time() - 5
    host.say(LOADING)
    assert not warmth.is_cold(folder)


def test_the_first_who_lives_starts_a_cold_endpoint_again_whose_host_was_killed(tmp_path: Path) -> None:
    folders = {name: EndpointFolder(tmp_path / name) for name in ("a", "b", "c", "d", "e", "f")}
    for folder in folders.values():
        folder.path.mkdir()
        folder.want({"generation": 1})
        folder.started(Process(2**22 + 1, 0.0), 8000)  # no such process
    hosts = {name: Warmth(folder) for name, folder in folders.items()}
    for name, state in zip("abcdef", (COLD, COLD, WARM, WARM, COLD, COLD), strict=True):
        hosts[name].say(state)
    assert hosts["b"].orphans() == []
    for name, silent_s in (("a", 3.0), ("d", 3.0), ("e", 3.0), ("f", 3600.0)):  # d was warm: its serving process sees to that
        os.utime(folders[name].path / "warmth.json", (time.time() - silent_s,) * 2)
    folders["e"].want({"generation": 2, "stopped": True})
    assert hosts["c"].orphans() == [], "b is before it"
    assert [one.name for one in hosts["b"].orphans()] == ["a"]
    assert hosts["b"].orphans() == [], "it takes a moment to start"


def test_memory_counts_what_a_process_started() -> None:
    held = "import subprocess, sys; data = b'x' * (60 << 20); print(1, flush=True); sys.stdin.read()"
    starts = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {held!r}])"
    with subprocess.Popen([sys.executable, "-c", starts], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"1\n"
        assert 60 * MB < warmth.memory(process.pid) < 120 * MB
        process.communicate()
    assert warmth.memory(process.pid) == 0


def test_a_host_is_light() -> None:
    """There may be fifty of them that hold a port each, and no model."""
    imports = "import sys, jupyter_mlp.serving.host; print(1, flush=True); sys.stdin.read()"
    with subprocess.Popen([sys.executable, "-c", imports], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"1\n"
        held = psutil.Process(process.pid).memory_full_info().uss
        process.communicate()
    assert held < 13 * MB


@pytest.mark.parametrize(("text", "size"), [("4GB", 4 * 2**30), ("512MB", 512 * MB), ("1.5g", 1536 * MB), ("2 GiB", 2**31), ("1000", 1000)])
def test_sizes_as_people_write_them(text: str, size: int) -> None:
    assert sizes.read(text, "serving_memory") == size


@pytest.mark.parametrize("text", ["much", "-4GB", "4 apples", "GB", "4GB2"])
def test_what_is_no_size_says_how_to_write_one(tmp_path: Path, text: str) -> None:
    with pytest.raises(InvalidInputError) as refused:
        config.load(tmp_path, {"MLP_SERVING_MEMORY": text})
    assert refused.value.message == f"The setting serving_memory is {text!r}, not an amount of memory."
    assert refused.value.hint == 'Write it like serving_memory = "4GB" or "512MB".'
