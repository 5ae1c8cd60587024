"""An environment with the packages that a snapshot names, beside the one that runs: made once, kept by what is in it.

    ~/.cache/jupyter_mlp/environments/<digest of Python and packages>/bin/python

uv makes it, told what pip is told on this machine; packages come from its cache as links, so that another one costs seconds.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from jupyter_mlp.core import pip_settings
from jupyter_mlp.core.errors import InvalidInputError, MissingPackageError, StorageError, storage_error
from jupyter_mlp.core.identity import digest
from jupyter_mlp.store.artifacts import publish_bytes
from jupyter_mlp.store.leases import Lease

_NAME, _VERSION = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*"), re.compile(r"[0-9][0-9A-Za-z.!+_-]*")
_OWN, _PACKAGE = "jupyter-mlp", Path(__file__).resolve().parents[1]
_LOOK_S = 0.5
_KEPT_S = 30 * 86_400.0  # one that nobody used for so long goes
_HERE = "Verify in this environment instead: leave out --fresh-environment."

Progress = Callable[[dict[str, Any]], None]


@dataclass(frozen=True)
class Environment:
    """A virtual environment.

    Attributes:
        folder: where it is. `described`: what it holds, as `store.environment.exact` says it.
        left_out: packages that no index has -> where the snapshot had them from.
    """

    folder: Path
    described: Mapping[str, Any]
    left_out: Mapping[str, str]

    @property
    def python(self) -> Path:
        """Its interpreter."""
        return _python_in(self.folder)

    @property
    def variables(self) -> dict[str, str]:
        """What a process of this environment is told in place of what ours was."""
        path = os.pathsep.join([str(self.python.parent), os.environ.get("PATH", "")])
        return {"VIRTUAL_ENV": str(self.folder), "PATH": path, "PYTHONPATH": "", "PYTHONHOME": ""}

    @property
    def told(self) -> list[str]:
        """What a reader of a verification must know of it."""
        found = [f"In an environment made for it: Python {self.described['python']}, {len(self.described['packages'])} packages."]
        if self.left_out:
            found.append(f"Not in it, for no index has them: {', '.join(f'{name} ({origin})' for name, origin in self.left_out.items())}.")
        return found


def made(recorded: Mapping[str, Any], progress: Progress | None = None) -> Environment:
    """Return the environment that a snapshot names, made now or before.

    Args:
        recorded: what `store.environment.exact` said when the snapshot was taken.

    Raises:
        MissingPackageError: this machine has no such Python, or no index has one of the packages.
        InvalidInputError: the snapshot names what is no package.
        StorageError: the disk is full, or the cache cannot be written.
    """
    interpreter = _interpreter(recorded["python"])
    left_out = {name: origin for name, origin in recorded.get("origins", {}).items() if name != _OWN}
    lock = _lock(recorded["packages"], {*left_out, _OWN})
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "jupyter_mlp", "environments")
    folder = home / digest(interpreter, lock, _own_files())[:32]
    complete = folder / "complete.json"
    try:
        home.mkdir(parents=True, exist_ok=True, mode=0o700)
        with _turn(folder, progress) as turn:
            if not complete.exists():
                _make_whole(interpreter, lock, folder, turn, progress)
            os.utime(complete)
        _forget_old(home)
        return Environment(folder, json.loads(complete.read_text(encoding="utf-8")), left_out)
    except StorageError:
        raise
    except OSError as error:
        raise storage_error(error, "making the snapshot's environment") from error


@contextmanager
def _turn(folder: Path, progress: Progress | None) -> Iterator[int]:
    """Wait until nobody else is at work on the environment. uv gets the lease too: where we are killed, it is held until uv has ended."""
    lease = Lease(folder.with_suffix(".lock"))
    while (handle := lease.take()) is None:
        if progress:
            progress({"text": "another process makes this environment"})
        time.sleep(_LOOK_S)
    try:
        yield handle
    finally:
        os.close(handle)


def _make_whole(interpreter: str, lock: str, folder: Path, turn: int, progress: Progress | None) -> None:
    shutil.rmtree(folder, ignore_errors=True)  # somebody was killed while they made it
    try:
        _make(interpreter, lock, folder, turn, progress)
        _bring_own(folder)
        publish_bytes(folder / "complete.json", _described(folder))
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise


def _interpreter(version: str) -> str:
    minor = ".".join(version.split(".")[:2])
    if minor == f"{sys.version_info[0]}.{sys.version_info[1]}":
        return str(Path(sys.executable).resolve())
    found = shutil.which(f"python{minor}") if re.fullmatch(r"3\.\d+", minor) else None
    if found is None:
        raise MissingPackageError(f"The snapshot ran on Python {version}; there is no Python {minor} here.", f"Install it. {_HERE}")
    return str(Path(found).resolve())


def _lock(packages: Mapping[str, str], without: Collection[str]) -> str:
    """The packages as lines of a requirements file; a foreign snapshot may name anything, an option of the installer too."""
    lines = []
    for name, version in sorted(packages.items()):
        if not _NAME.fullmatch(name) or not _VERSION.fullmatch(version):
            raise InvalidInputError(f"The snapshot names a package {name!r} {version!r}, which no index can have.", "Do not use this file.")
        if name not in without:
            lines.append(f"{name}=={version}")
    return "\n".join(lines)


def _make(interpreter: str, lock: str, folder: Path, turn: int, progress: Progress | None) -> None:
    if find_spec("uv") is None:
        raise MissingPackageError("uv is not installed.", "pip install 'jupyter_mlp[notebook]'")
    count = len(lock.splitlines())
    settings = pip_settings.of_pip(Path(sys.executable)) if find_spec("pip") else {}
    told = {name: value for name, value in pip_settings.for_uv(settings).items() if name not in ("VIRTUAL_ENV", "PYTHONPATH")}
    _uv(["venv", "--quiet", "--no-python-downloads", "--python", interpreter, str(folder)], told, turn, "", progress)
    wanted = folder / "requirements.txt"
    publish_bytes(wanted, lock.encode())
    install = ["pip", "install", "--no-deps", "--python", str(_python_in(folder)), "--requirements", str(wanted)]
    _uv(install, told, turn, f"an environment of {count} packages", progress)


def _uv(words: list[str], variables: Mapping[str, str], turn: int, what: str, progress: Progress | None) -> None:
    said: list[str] = []
    command = [sys.executable, "-m", "uv", *words]
    with _running(command, variables, turn) as process:
        assert process.stderr is not None
        for line in process.stderr:
            said.append(line.rstrip())
            if progress and what and not line.startswith(" +"):
                progress({"text": f"{what}: {said[-1].strip()}"})
    if process.returncode:
        reason = " ".join(line.strip(" ×╰─▶│") for line in said if line.strip()).rpartition("error: ")[2].replace(" cause: ", ": ")[:600]
        if "No space left" in reason or "os error 28" in reason:
            raise StorageError(f"The disk is full: {reason}", f"Free some space and run it again. {_HERE}")
        raise MissingPackageError(f"The snapshot's environment cannot be made: {reason}", f"Tell pip where the package is. {_HERE}")


@contextmanager
def _running(command: list[str], variables: Mapping[str, str], turn: int) -> Iterator[subprocess.Popen[str]]:
    """A process that an interrupt of this one ends."""
    process = subprocess.Popen(
        command,
        env=dict(variables),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        pass_fds=(turn,),
    )
    with process:
        try:
            yield process
        except BaseException:
            process.kill()
            raise


def _python_in(folder: Path) -> Path:
    return folder / "bin" / "python"


def _own_files() -> str:
    """What this package is now."""
    return digest([(str(path.relative_to(_PACKAGE)), digest(path.read_bytes().hex())) for path in sorted(_PACKAGE.rglob("*.py"))])


def _bring_own(folder: Path) -> None:
    """Copy this package, in the place of the one that the snapshot names: what verifies is what was asked, and understands it."""
    from importlib import metadata

    asked = [str(_python_in(folder)), "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"]
    place = Path(subprocess.run(asked, capture_output=True, text=True, check=True).stdout.strip())
    without = shutil.ignore_patterns("__pycache__")
    shutil.copytree(_PACKAGE, place / "jupyter_mlp", ignore=without)
    about = next(file for file in metadata.distribution("jupyter_mlp").files or () if file.name == "METADATA")
    shutil.copytree(Path(str(about.locate())).parent, place / Path(str(about)).parent.name)


def _described(folder: Path) -> bytes:
    code = "import json; from jupyter_mlp.store import environment; print(json.dumps(environment.exact()))"
    done = subprocess.run([_python_in(folder), "-I", "-c", code], capture_output=True, text=True)
    if done.returncode:
        reason = done.stderr.strip().splitlines()[-1]
        raise MissingPackageError(f"jupyter_mlp does not work in the snapshot's environment: {reason}", _HERE)
    return done.stdout.encode()


def _forget_old(home: Path) -> None:
    for folder in [found for found in home.iterdir() if found.is_dir()]:
        complete = folder / "complete.json"  # whoever was killed while they made it left none
        used = (complete if complete.exists() else folder).stat().st_mtime
        handle = Lease(folder.with_suffix(".lock")).take() if time.time() - used > _KEPT_S else None
        if handle is not None:  # nobody is just about to use it
            complete.unlink(missing_ok=True)  # first: what is half gone is none
            shutil.rmtree(folder, ignore_errors=True)
            os.close(handle)
