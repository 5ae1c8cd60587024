"""A cluster: how the settings name one, and what is seen of it and of a job there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from jupyter_mlp.core.entities import RUNNING
from jupyter_mlp.core.errors import InvalidInputError, nearest

GONE, UNREACHABLE = "gone", "unreachable"


@dataclass(frozen=True)
class Cluster:
    """A table `[cluster.NAME]` of the settings file. Names and defaults are those of its keys.

    Attributes:
        kind: the launcher: local, ray, slurm, or that of a plug-in.
        address: of Ray's dashboard, http://HEAD:8265.
        partition: of Slurm; its default one when left out.
        options: more `#SBATCH` lines, such as --account=ml.
        template: a file in the place of ours for the Slurm script.
        python: on the nodes; that of the notebook when left out.
        environment: variables that the training processes get.
        cpus_per_gpu: cores that are asked for with each GPU.
        trusted: a Ray cluster without tokens, in a network where everybody may run code.
    """

    name: str
    kind: str
    address: str = ""
    partition: str = ""
    options: tuple[str, ...] = ()
    template: str = ""
    python: str = ""
    environment: Mapping[str, str] = field(default_factory=dict)
    cpus_per_gpu: int = 1
    trusted: bool = False

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON types."""
        return {**asdict(self), "options": list(self.options), "environment": dict(self.environment)}

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> Cluster:
        """Read what `to_dict` wrote."""
        return cls(**{**value, "options": tuple(value.get("options", ()))})


LOCAL = Cluster("local", "local")


@dataclass(frozen=True)
class Sight:
    """What an engine says of a job now.

    Attributes:
        state: QUEUED, RUNNING, GONE (it does not run and will not) or UNREACHABLE (nobody can say).
        why: a sentence, where there is more to say.
    """

    state: str = RUNNING
    why: str = ""


def read(name: str, table: Any, where: str) -> Cluster:
    """Return the cluster that a table of the settings describes.

    Raises:
        InvalidInputError: a key is unknown, missing or of the wrong type.
    """
    hint = f'In {where}:  [cluster.{name}]  kind = "slurm"  or  kind = "ray", address = "http://HEAD:8265"'
    if name == LOCAL.name:
        raise InvalidInputError("A cluster cannot be named local: that is this machine.", f"Give it another name in {where}.")
    if not isinstance(table, Mapping) or not isinstance(table.get("kind"), str):
        raise InvalidInputError(f"The cluster {name} has no kind.", hint)
    types = {one.name: type(getattr(LOCAL, one.name)) for one in fields(Cluster) if one.name != "name"}
    found: dict[str, Any] = {}
    for key, value in table.items():
        if key not in types:
            raise InvalidInputError(f"The cluster {name} sets {key!r}, which is no setting of a cluster.", nearest(key, types))
        found[key] = _typed(name, key, value, types[key])
    return Cluster(name, **found)


def _typed(name: str, key: str, value: Any, wanted: type) -> Any:
    texts = isinstance(value, list) and all(isinstance(one, str) for one in value)
    if wanted is tuple and texts:
        return tuple(value)
    if wanted is dict and isinstance(value, Mapping) and all(isinstance(one, str) for one in value.values()):
        return dict(value)
    if type(value) is wanted and wanted in (str, int, bool):
        return value
    shape = {tuple: "a list of texts", dict: "a table of texts", int: "a number", bool: "true or false"}.get(wanted, "a text")
    raise InvalidInputError(f"The cluster {name} sets {key} to {value!r}.", f"It must be {shape}.")
