"""The machine's time zone, by name: part of what a query's answer depends on."""

from __future__ import annotations

import os
import time


def local_zone() -> str:
    """Return the IANA name of the local time zone, or its offset where it has none, like +02:00."""
    named = os.environ.get("TZ", "").lstrip(":")
    if "/" in named or named == "UTC":
        return named
    target = os.path.realpath("/etc/localtime")
    if "zoneinfo/" in target:
        return target.split("zoneinfo/", 1)[1]
    offset = time.strftime("%z")
    return f"{offset[:3]}:{offset[3:]}"
