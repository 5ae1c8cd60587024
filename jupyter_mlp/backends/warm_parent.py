"""The warm parent: a process that has imported what every training imports, and forks one for whoever asks.

    python -m jupyter_mlp.backends.warm_parent IDLE_S

It has one thread, runs nothing but this loop, and knows nothing of a run. Only its own user reaches its socket.
"""

from __future__ import annotations

import atexit
import ctypes
import gc
import importlib
import json
import os
import selectors
import signal
import socket
import struct
import sys
import threading
import time
import warnings
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jupyter_mlp.backends import warm
from jupyter_mlp.backends.ranks import HELD
from jupyter_mlp.store.leases import Lease

_WISH_S = 2.0  # in which whoever asks has said what
_GO_S = 10.0
_CURRENT_S = 60.0
_NOT_BEGUN = 3  # CUDA_ERROR_NOT_INITIALIZED
_ALWAYS = ("jupyter_mlp.backends.worker", "jupyter_mlp.backends.lightning", "jupyter_mlp.backends.lightning_names")
# What a training imports on its way, most of it to export; names that a version does not have cost that version time.
_ON_THE_WAY = (
    *("pyarrow.parquet", "pyarrow.compute", "pandas", "networkx", "onnxruntime", "torch._dynamo", "torch.export._trace"),
    *("torch.onnx._internal.exporter._core", "torch.onnx._internal.exporter._torchlib.ops"),
    *("onnxscript.function_libs.torch_lib.ops", "onnxscript.rewriter.onnx_fusions"),
)


@dataclass
class Wish:
    """A training process that somebody wants; `files` are its log and its lease."""

    run: str
    environment: dict[str, str]
    files: list[int]
    asking: socket.socket


def main(idle_s: float) -> int:
    """Serve until unwanted for `idle_s` seconds; in a forked process, train."""
    where = warm.address()
    lease = Lease(where.with_suffix(".lock")).take()
    if lease is None:
        return 0  # another one was faster
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    where.unlink(missing_ok=True)
    listening.bind(str(where))
    _prepare()
    if _has_begun_cuda():
        sys.stderr.write("Something that was imported has begun the GPU's driver, which does not survive a fork: no warm parent here.\n")
        where.unlink(missing_ok=True)
        return 1
    listening.listen(64)
    wish = _serve(listening, idle_s)
    if wish is None:
        where.unlink(missing_ok=True)
        return 0
    os.close(lease)  # the parent's alone
    return _train(wish) if _may_go(wish.asking) else 0


def _prepare() -> None:
    """Import; whatever of it is not installed, the training says."""
    warnings.simplefilter("ignore")
    os.environ["PYTORCH_NVML_BASED_CUDA_CHECK"] = "1"  # whether there is a GPU is asked without beginning its driver
    for name in _ALWAYS:
        importlib.import_module(name)
    for name in _ON_THE_WAY:
        with suppress(ImportError):
            importlib.import_module(name)
    gc.collect()
    gc.freeze()  # what is here stays: a collection in a child need not copy all of it


def _has_begun_cuda() -> bool:
    """Whether the driver of a GPU has been begun in this process, by its own word."""
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return False  # there is none
    return int(driver.cuDeviceGetCount(ctypes.byref(ctypes.c_int()))) != _NOT_BEGUN


def _serve(listening: socket.socket, idle_s: float) -> Wish | None:
    """Fork for who asks and tell how it ended; return the wish in the child, and None in the parent when its time is over.

    It is over when nobody asked for a while, or nobody will ask because packages or our own files are others by now.
    """
    where = warm.address()
    told, tell = socket.socketpair()
    tell.setblocking(False)
    signal.set_wakeup_fd(tell.fileno())
    signal.signal(signal.SIGCHLD, lambda *_: None)
    asking: dict[int, socket.socket] = {}  # pid -> who wants to know
    wanted_at = time.monotonic()
    with selectors.DefaultSelector() as selector:
        selector.register(listening, selectors.EVENT_READ)
        selector.register(told, selectors.EVENT_READ)
        while asking or (time.monotonic() - wanted_at < idle_s and where == warm.address()):
            for key, _ in selector.select(min(idle_s, _CURRENT_S)):
                if key.fileobj is told:
                    told.recv(4096)
                    _tell_ends(asking)
                    continue
                connection, _ = listening.accept()
                wish = _read(connection)
                if wish is None:
                    connection.close()
                    continue
                pid = os.fork()
                if not pid:
                    for mine in (listening, told, tell, *asking.values()):
                        mine.close()
                    return wish
                for file in wish.files:
                    os.close(file)
                asking[pid] = connection
                wanted_at = time.monotonic()
    return None


def _tell_ends(asking: dict[int, socket.socket]) -> None:
    while asking:
        pid, status = os.waitpid(-1, os.WNOHANG)
        if not pid:
            return
        connection = asking.pop(pid)
        _say(connection, {"status": os.waitstatus_to_exitcode(status)})
        connection.close()


def _read(connection: socket.socket) -> Wish | None:
    """Return what somebody wants; None when nothing sensible comes."""
    connection.settimeout(_WISH_S)
    files: list[int] = []
    try:
        head, files, _, _ = socket.recv_fds(connection, warm.HEAD.size, 2)
        (size,) = warm.HEAD.unpack(head)
        wish = json.loads(connection.recv(size, socket.MSG_WAITALL))
        if len(files) == 2:
            return Wish(wish["run"], wish["environment"], files, connection)
    except (OSError, ValueError, KeyError, struct.error):
        pass
    for file in files:
        os.close(file)
    return None


def _say(connection: socket.socket, what: dict[str, Any]) -> None:
    text = json.dumps(what).encode()
    with suppress(OSError):  # who asked is gone
        connection.sendall(warm.HEAD.pack(len(text)) + text)


def _may_go(asking: socket.socket) -> bool:
    """Say which process it is, and wait for whoever asked to have heard it; one that gave up has started another."""
    with asking, suppress(OSError):
        asking.settimeout(_GO_S)
        _say(asking, {"pid": os.getpid()})
        return asking.recv(1) == warm.GO
    return False


def _train(wish: Wish) -> int:
    """Become the training process: its own session, files, variables and folder, as if it had been started afresh."""
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    os.setsid()
    log, held = wish.files
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.dup2(log, 1)
    os.dup2(log, 2)
    for file in (nothing, log):
        os.close(file)
    os.environ.clear()
    os.environ.update(wish.environment, **{HELD: str(held)})
    os.chdir(wish.run)
    sys.argv = [sys.argv[0], wish.run]
    sys.path[0] = wish.run
    warnings.resetwarnings()
    from jupyter_mlp.backends import worker

    return worker.main(Path(wish.run))


def _leave(status: int) -> None:
    """End as Python does, less the taking apart of all that was imported, which takes a second."""
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


if __name__ == "__main__":
    _leave(main(float(sys.argv[1])))
