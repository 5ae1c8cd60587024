"""What pip is told on a machine, told to uv too: uv installs ten times as fast, but does not read pip's configuration.

Standard library only: `make setup` uses it before anything is installed.
"""

from __future__ import annotations

import ast
import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

# pip's setting -> uv's environment variable, and what separates several values there
_LISTS = {"find-links": ("UV_FIND_LINKS", ","), "extra-index-url": ("UV_INDEX", " "), "trusted-host": ("UV_INSECURE_HOST", " ")}
_SINGLES = {
    "index-url": "UV_DEFAULT_INDEX",
    "cert": "SSL_CERT_FILE",
    "default-timeout": "UV_HTTP_TIMEOUT",
    "timeout": "UV_HTTP_TIMEOUT",
    "keyring-provider": "UV_KEYRING_PROVIDER",
}


def of_pip(python: Path) -> dict[str, str]:
    """Return what pip was told on this machine: files, then the section of `pip install`, then PIP_ variables."""
    listed = subprocess.run([python, "-m", "pip", "config", "list"], capture_output=True, text=True, check=True).stdout
    settings: dict[str, dict[str, str]] = {"global": {}, "install": {}, ":env:": {}}
    for line in listed.splitlines():
        name, _, value = line.partition("=")
        section, _, key = name.rpartition(".")
        if section in settings:
            settings[section][key] = str(ast.literal_eval(value))
    return settings["global"] | settings["install"] | settings[":env:"]


def for_uv(settings: Mapping[str, str]) -> dict[str, str]:
    """Return this process's environment, with pip's settings under uv's names; what the user told uv itself wins."""
    told = {name: separator.join(settings[key].split()) for key, (name, separator) in _LISTS.items() if settings.get(key)}
    told |= {name: settings[key] for key, name in _SINGLES.items() if settings.get(key)}
    if settings.get("no-index", "").lower() in ("1", "true", "yes", "on"):
        told["UV_NO_INDEX"] = "1"
    if "UV_INDEX" in told:
        told["UV_INDEX_STRATEGY"] = "unsafe-best-match"  # pip's own way: the best version over all indexes
    if settings.get("proxy"):
        told |= {"HTTPS_PROXY": settings["proxy"], "HTTP_PROXY": settings["proxy"]}
    return {**told, **os.environ}
