"""Telling somebody of an alarm when it is raised, once: not again while it stands, and again when it comes back.

alarms.json beside the endpoint's files holds what was told to whom; of whom there is a hash, because a webhook's URL is a secret.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jupyter_mlp.core.alarms import Alarm
from jupyter_mlp.core.config import Settings
from jupyter_mlp.notebook import notify
from jupyter_mlp.store.artifacts import publish_bytes
from jupyter_mlp.store.deployments import EndpointFolder


def tell(folder: EndpointFolder, targets: Sequence[str], standing: Sequence[Alarm], about: Mapping[str, Any], settings: Settings) -> int:
    """Tell each target of the alarms that it does not know of yet, in one message; return how many messages were sent.

    Raises:
        JobError: somebody could not be told; the next call tries again.
    """
    path, sent = folder.path / "alarms.json", 0
    with folder.waiting("alarms"):
        for target in targets:
            whom = hashlib.blake2b(target.encode(), digest_size=16).hexdigest()
            told = _read(path)
            new = [alarm for alarm in standing if alarm.name not in told.get(whom, [])]
            if new:
                message = {"endpoint": folder.name, "state": "alarm", "new": [alarm.says for alarm in new]}
                notify.send(target, {**message, "standing": [alarm.says for alarm in standing], **about}, settings)
                sent += 1
            if {alarm.name for alarm in standing} != set(told.get(whom, [])):
                publish_bytes(path, json.dumps({**told, whom: [alarm.name for alarm in standing]}).encode())
    return sent


def _read(path: Path) -> dict[str, list[str]]:
    try:
        found: dict[str, list[str]] = json.loads(path.read_bytes())
    except FileNotFoundError:
        return {}
    return found
