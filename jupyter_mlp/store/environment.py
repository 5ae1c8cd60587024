"""What a result was made with: Python, machine and packages, as far as they can be named."""

from __future__ import annotations

import json
import os
import platform
import re
import sys
from collections.abc import Mapping
from importlib import metadata
from typing import Any

from jupyter_mlp.store import gpus


def describe() -> dict[str, Any]:
    """Return Python, platform, cores, GPUs and every installed package with its version, as JSON types."""
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "machine": platform.machine(),
        "cores": os.cpu_count() or 1,
        "gpus": gpus.names(),
        "executable": sys.executable,
        "packages": packages(),
        "origins": origins(),
    }


def packages() -> dict[str, str]:
    """Return {name: version} of every installed package, names in their normal form."""
    found = {}
    for one in metadata.distributions():
        name = one.metadata["Name"]
        if name:
            found[re.sub(r"[-_.]+", "-", name).lower()] = one.version
    return dict(sorted(found.items()))


def origins() -> dict[str, str]:
    """Return where the packages are from that no index has: {name: the address of a folder, a file or a repository}."""
    found = {}
    for one in metadata.distributions():
        told = one.read_text("direct_url.json")
        if told and one.metadata["Name"]:
            address = re.sub(r"//[^/@]*@", "//", str(json.loads(told).get("url", "")))  # it may hold a password
            found[re.sub(r"[-_.]+", "-", one.metadata["Name"]).lower()] = address
    return dict(sorted(found.items()))


def changed(recorded: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """Name what differs between a recorded environment and another; empty when nothing does."""
    told = [f"{name} {recorded.get(name)} -> {now[name]}" for name in ("python", "machine") if recorded.get(name) != now[name]]
    if recorded.get("gpus", now["gpus"]) != now["gpus"]:
        told.append(f"GPU {_listed(recorded['gpus'])} -> {_listed(now['gpus'])}")
    before, after = recorded["packages"], now["packages"]
    different = [f"{name} {before[name]} -> {after.get(name, 'missing')}" for name in before if before[name] != after.get(name)]
    told += different[:5] + ([f"and {len(different) - 5} more packages"] if len(different) > 5 else [])
    return ", ".join(told)


def _listed(names: list[str]) -> str:
    return ", ".join(names) or "none"
