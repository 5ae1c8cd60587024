"""Which Ray cluster a job is in: where a machine runs several, Ray starts a job's driver in any of them.

It looks for a head among the machine's processes, so a job that was sent to one cluster could take the GPUs of another.
"""

from __future__ import annotations

import os

EXPECTED = "MLP_RAY_SESSION"  # the cluster that the job was sent to, in Ray's word for one start of a head


def stray(session: str) -> tuple[str, str] | None:
    """Return what is wrong and what to do, where a driver has come into another cluster than its job was sent to.

    Args:
        session: the session of the cluster that the driver has joined.
    """
    expected = os.environ.get(EXPECTED) or session  # a head of before Ray had that word
    if session == expected:
        return None
    return (
        f"Ray started the job in another cluster than it was sent to: in {session}, not in {expected}.",
        "Several Ray heads run on that machine. Start each with a folder of its own: ray start --head --temp-dir /tmp/NAME",
    )
