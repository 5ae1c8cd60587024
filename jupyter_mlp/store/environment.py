"""What a result was made with: Python, machine and packages, as far as they can be named."""

from __future__ import annotations

import os
import platform
import re
import sys
from importlib import metadata
from typing import Any


def describe() -> dict[str, Any]:
    """Return Python, platform, cores and every installed package with its version, as JSON types."""
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "machine": platform.machine(),
        "cores": os.cpu_count() or 1,
        "executable": sys.executable,
        "packages": packages(),
    }


def packages() -> dict[str, str]:
    """Return {name: version} of every installed package, names in their normal form."""
    found = {}
    for one in metadata.distributions():
        name = one.metadata["Name"]
        if name:
            found[re.sub(r"[-_.]+", "-", name).lower()] = one.version
    return dict(sorted(found.items()))
