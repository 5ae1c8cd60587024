"""What a result was made with: Python, machine and packages, as far as they can be named."""

from __future__ import annotations

import json
import os
import platform
import re
import sys
from collections.abc import Mapping, Sequence
from importlib import metadata
from typing import Any, NamedTuple

from jupyter_mlp.core import plugins
from jupyter_mlp.core.errors import MLPError
from jupyter_mlp.core.identity import digest
from jupyter_mlp.store import gpus

_BY_PLACE = re.compile(r"\.pyc,|\.dist-info/|^_?_editable_|\.pth,")


def describe() -> dict[str, Any]:
    """Return Python, platform, cores, GPUs and every installed package with its version, as JSON types."""
    return _described(_installed())


def exact() -> dict[str, Any]:
    """Return what `describe` says, which build each package is, and Spark's Java; this takes a few tenths of a second."""
    installed = _installed()
    return {**_described(installed), "builds": _builds(installed), "java": _java()}


def packages() -> dict[str, str]:
    """Return {name: version} of every installed package, names in their normal form."""
    return {one.name: one.version for one in _installed()}


class _Installed(NamedTuple):
    name: str
    version: str
    files: metadata.Distribution


def _installed() -> list[_Installed]:
    found: dict[str, _Installed] = {}
    for one in metadata.distributions():
        told = one.metadata  # it is read and parsed every time
        if told["Name"]:
            name = re.sub(r"[-_.]+", "-", told["Name"]).lower()
            found.setdefault(name, _Installed(name, told["Version"], one))  # the first on the path is the one that is imported
    return [found[name] for name in sorted(found)]


def _described(installed: Sequence[_Installed]) -> dict[str, Any]:
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "machine": platform.machine(),
        "processor": _processor(),
        "cores": os.cpu_count() or 1,
        "gpus": gpus.names(),
        "executable": sys.executable,
        "packages": {one.name: one.version for one in installed},
        "origins": _origins(installed),
    }


def _java() -> str:
    """What Spark would run on; empty where there is none."""
    try:
        return str(plugins.load("engines", "spark").java_version())
    except (MLPError, ImportError):
        return ""


def _processor() -> str:
    """What the processor is called; empty where the system does not say."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as told:
            return next((line.partition(":")[2].strip() for line in told if line.startswith("model name")), "")
    except OSError:
        return platform.processor()


def _origins(installed: Sequence[_Installed]) -> dict[str, str]:
    """{name: address of the folder, file or repository}, of those that no index has."""
    told = {one.name: one.files.read_text("direct_url.json") for one in installed}
    # An address may hold a password.
    return {name: re.sub(r"//[^/@]*@", "//", str(json.loads(text).get("url", ""))) for name, text in told.items() if text}


def _builds(installed: Sequence[_Installed]) -> dict[str, str]:
    """{name: digest of the hashes of its files, as its wheel says them}: one version may be built for a CPU and for a GPU."""
    found = {}
    for one in installed:
        record = one.files.read_text("RECORD") or ""
        # Scripts, bytecode and the wheel's own notes differ by where and by what it was installed.
        lines = [line for line in record.splitlines() if ",sha256=" in line and not line.startswith("../") and not _BY_PLACE.search(line)]
        if lines:
            found[one.name] = digest("\n".join(sorted(lines)))
    return found


def other_hardware(recorded: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """Name what differs between the machine of a recorded environment and that of another; empty when nothing does, or nobody noted it."""
    told = [f"{name} {recorded[name]} -> {now[name]}" for name in ("machine", "processor") if recorded.get(name, now[name]) != now[name]]
    if recorded.get("gpus", now["gpus"]) != now["gpus"]:
        told.append(f"GPU {_listed(recorded['gpus'])} -> {_listed(now['gpus'])}")
    return ", ".join(told)


def changed(recorded: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """Name the software that differs between a recorded environment and another; empty when none does."""
    told = [f"python {recorded.get('python')} -> {now['python']}"] if recorded.get("python") != now["python"] else []
    if recorded.get("java") and now.get("java", recorded["java"]) != recorded["java"]:
        told.append(f"Java {recorded['java']} -> {now['java'] or 'none'}")
    before, after = recorded["packages"], now["packages"]
    different = [f"{name} {before[name]} -> {after.get(name, 'missing')}" for name in before if before[name] != after.get(name)]
    built, now_built = recorded.get("builds", {}), now.get("builds", {})
    same_version = [name for name in built.keys() & now_built.keys() if before.get(name) == after.get(name)]
    different += [f"{name} {before[name]}, another build of it" for name in sorted(same_version) if built[name] != now_built[name]]
    told += different[:5] + ([f"and {len(different) - 5} more packages"] if len(different) > 5 else [])
    return ", ".join(told)


def _listed(names: list[str]) -> str:
    return ", ".join(names) or "none"
