"""Places of serving processes, with real processes: who is due when, and what the processes say for all of them."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from jupyter_mlp.core.clusters import LOCAL
from jupyter_mlp.core.errors import InvalidInputError
from jupyter_mlp.serving import listening, slots
from jupyter_mlp.serving.control import ThisMachine
from jupyter_mlp.serving.siblings import Sibling
from jupyter_mlp.serving.slots import Slot
from jupyter_mlp.store.deployments import EndpointFolder
from jupyter_mlp.store.processes import this_process


def told(slot: Slot) -> str:
    """Let a process begin that dies at once; return what it was told."""
    child = subprocess.Popen([sys.executable, "-c", "print(input())"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    slot.begin(child)
    assert child.stdout is not None
    said = child.stdout.readline().decode().strip()
    slots.wait([slot], 10)
    child.wait()
    assert slot.end() == 0
    return said


def test_a_place_waits_longer_after_each_crash_and_then_takes_the_last_good_models() -> None:
    one, other = Slot(0, 2), Slot(1, 2)
    assert one.is_due and other.is_due
    waits = []
    for _ in range(3):
        assert told(one) == "0 2"
        waits.append(one.wait_s)
        assert not one.is_due and not one.is_calm(0)
        slots.wait([one], 10)
        assert one.is_due, "the wait ends when it is due"
    assert 0 < waits[0] < waits[1] < waits[2] < 2
    assert told(one) == "0 2 --last-good"
    assert other.is_due and not other.wants_last_good, "each place counts for itself"


def test_waiting_ends_with_the_first_process_that_does() -> None:
    lasting, ending = Slot(0), Slot(1)
    for slot, seconds in ((lasting, 60), (ending, 0.3)):
        slot.begin(subprocess.Popen([sys.executable, "-c", f"import time; time.sleep({seconds})"], stdin=subprocess.PIPE))
    begun = time.monotonic()
    while ending.end() is None:
        slots.wait([lasting, ending], 30)
        assert time.monotonic() - begun < 25
    assert lasting.end() is None and lasting.is_calm(0)
    assert lasting.child is not None
    lasting.child.kill()
    lasting.child.wait()


def test_the_last_to_follow_says_it_for_all(tmp_path: Path) -> None:
    folder = EndpointFolder(tmp_path / "delays")
    one, two = Sibling(folder, 0, 2), Sibling(folder, 1, 2)
    one.report({"generation": 1, "serving": ["a"], "error": None, "pid": 1})
    assert folder.actual() == {}
    two.report({"generation": 1, "serving": ["a"], "error": None, "pid": 2})
    assert folder.actual()["generation"] == 1 and folder.actual()["error"] is None
    two.report({"generation": 2, "serving": ["b"], "error": None, "pid": 2})
    assert folder.actual()["generation"] == 1, "one has followed"
    one.report({"generation": 2, "serving": ["a"], "error": "too slow", "pid": 1})
    assert (folder.actual()["generation"], folder.actual()["error"]) == (2, "too slow"), "what one refuses is refused"
    one.silent = True
    one.report({"generation": 2, "serving": ["b"], "error": None, "pid": 1})
    assert folder.actual()["error"] == "too slow", "who has a successor says nothing"
    assert one.is_succeeded(7) and not one.is_succeeded(1)
    alone = Sibling(folder, 0, 1)
    alone.report({"generation": 3, "serving": ["c"], "error": None, "pid": 9})
    assert one.is_succeeded(1), "one serves in the place of both"
    assert folder.actual()["generation"] == 3 and alone.writer == "" and (one.writer, two.writer) == ("0", "1")


def test_each_process_has_a_socket_of_the_port_that_nobody_else_gets(tmp_path: Path) -> None:
    folder = EndpointFolder(tmp_path / "delays")
    folder.want({"generation": 1, **ThisMachine(LOCAL).settle(folder.path, None, 2)})
    sockets = listening.opened(folder)
    try:
        (port,) = {one.getsockname()[1] for one in sockets}
        assert len(sockets) == 2 and not listening.is_free(folder)
        with pytest.raises(OSError, match="in use"):
            listening.opened(folder)
        callers = [socket.create_connection(("127.0.0.1", port)) for _ in range(64)]
        shares = [_taken(one) for one in sockets]
        assert sum(shares) == 64 and min(shares) > 10, "the system deals them out"
        for caller in callers:
            caller.close()
        folder.want({**folder.wanted(), "replicas": 3})
        sockets += listening.more(folder, sockets)
        assert len(sockets) == 3 and not listening.more(folder, sockets)
        callers = [socket.create_connection(("127.0.0.1", port)) for _ in range(64)]
        assert sum(_taken(one) for one in sockets[:2]) == 64, "a socket that does not listen yet is dealt none"
        for caller in callers:
            caller.close()
    finally:
        for one in sockets:
            one.close()
    assert listening.is_free(folder)


def test_a_socket_of_its_own_is_shared_when_more_processes_are_wanted(tmp_path: Path) -> None:
    folder = EndpointFolder(tmp_path / "delays")
    folder.want({"generation": 1, **ThisMachine(LOCAL).settle(folder.path, None, None)})
    (first,) = listening.opened(folder)
    folder.want({**folder.wanted(), "replicas": 2})
    (second,) = listening.more(folder, [first])
    with first, second:
        second.listen()
        callers = [socket.create_connection(first.getsockname()) for _ in range(64)]
        shares = [_taken(one) for one in (first, second)]
        assert sum(shares) == 64 and min(shares) > 10
        for caller in callers:
            caller.close()


def test_a_number_of_processes_stays_until_another_is_asked_for(tmp_path: Path) -> None:
    folder, machine = EndpointFolder(tmp_path / "delays"), ThisMachine(LOCAL)
    assert machine.settle(folder.path, None, None)["replicas"] == 1
    with pytest.raises(InvalidInputError, match="this machine can serve with") as refused:
        machine.settle(folder.path, None, len(os.sched_getaffinity(0)) + 1)
    assert "replicas=" in refused.value.hint
    folder.want({"generation": 1, **machine.settle(folder.path, None, 2)})
    folder.started(this_process(), folder.wanted()["port"])
    for stopped in (False, True):
        folder.want({**folder.wanted(), "stopped": stopped})
        assert machine.settle(folder.path, None, None)["replicas"] == 2 and machine.settle(folder.path, None, 1)["replicas"] == 1
    folder.want({**folder.wanted(), "where": {"name": "pool", "kind": "ray"}})
    assert machine.settle(folder.path, None, None)["replicas"] == 1, "what it had on a cluster is not for this machine"


def _taken(one: socket.socket) -> int:
    one.setblocking(False)
    taken = 0
    while True:
        try:
            one.accept()[0].close()
        except BlockingIOError:
            return taken
        taken += 1
