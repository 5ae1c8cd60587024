"""What an exported snapshot holds beside the notebook: every table version, dataset version, model and plain file that it used.

Each file of these is a member of the export under its hash; `data.json` says what they make up. Unpacked into a workspace, a
table's version keeps its name and time, so that references, `VERSION AS OF` and `TIMESTAMP AS OF` mean what they meant.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from jupyter_mlp.core.errors import InvalidInputError
from jupyter_mlp.core.references import Ref
from jupyter_mlp.store import datasets, registry
from jupyter_mlp.store.artifacts import publish_file, publish_folder
from jupyter_mlp.store.commits import Elsewhere
from jupyter_mlp.store.gauges import Gauge, Progress
from jupyter_mlp.store.lake import is_name
from jupyter_mlp.store.snapshots import is_hash
from jupyter_mlp.store.workspace import Workspace

if TYPE_CHECKING:
    import pyarrow as pa

_VERSIONS = {"table": r"[0-9]{1,19}", "dataset": r"[0-9a-f]{8,64}"}
_UNSAFE = "The file names {what!r} as data, which no snapshot does."

Extract = Callable[[str, Path], None]


@dataclass(frozen=True)
class Version:
    """A version of a table or dataset, or a model.

    Attributes:
        files: hashes, in the order in which the files are read. `names`: of a model: where each is in its folder.
        schema: of a table: the columns as an Arrow IPC message, in base64. `at_ms`: when the version was made.
        used, parameters: what it was made from, and how: the query, the training.
    """

    ref: str
    files: tuple[str, ...]
    schema: str = ""
    at_ms: int = 0
    used: tuple[str, ...] = ()
    parameters: Mapping[str, Any] = field(default_factory=dict)
    names: tuple[str, ...] = ()


@dataclass(frozen=True)
class Carried:
    """What lies in an export beside the snapshot itself.

    Attributes:
        files: plain files by the relative name that the cells give them -> hash.
    """

    versions: tuple[Version, ...] = ()
    files: Mapping[str, str] = field(default_factory=dict)

    @property
    def members(self) -> list[str]:
        """The names of the members as they are unpacked: one that is in several versions, several times."""
        return [one for version in self.versions for one in version.files] + list(self.files.values())

    @property
    def hashes(self) -> set[str]:
        """The names of all members."""
        return set(self.members)

    @property
    def refs(self) -> set[str]:
        """The exact references of the versions inside."""
        return {version.ref for version in self.versions}

    def to_json(self) -> bytes:
        """Return it as `data.json` holds it."""
        return json.dumps(asdict(self), sort_keys=True).encode()


NOTHING = Carried()


def of_json(data: bytes) -> Carried:
    """Return what `data.json` says.

    Raises:
        InvalidInputError: it names what no export has.
        KeyError, TypeError, ValueError: it is none.
    """
    told = json.loads(data)
    versions = tuple(_version(one) for one in told["versions"])
    files = {_inside(name): _hash(digest) for name, digest in told["files"].items()}
    return Carried(versions, files)


def gather(
    workspace: Workspace, refs: Iterable[Ref], read: Mapping[str, str], folder: Path, progress: Progress | None = None
) -> tuple[Carried, dict[str, Path]]:
    """Return what is to be carried, and the files that hold it by their hashes.

    Args:
        refs: exact references of tables, datasets and models; others are left out.
        read: the plain files that the cells name, and `folder` against which their names are meant; absolute ones are left out.
    """
    sources: dict[str, Path] = {}
    gauge = Gauge("reading", progress=progress)

    def hashed(paths: Iterable[str | Path]) -> tuple[str, ...]:
        found = [(_hash_of(gauge, Path(path)), Path(path)) for path in paths]
        sources.update(found)
        return tuple(digest for digest, _ in found)

    versions = []
    for ref in refs:
        if ref.kind == "table" and ref.version:
            lake = workspace.lake
            held = hashed(lake.files(ref.name, ref.version))
            columns = _schema_text(lake.schema(ref.name, ref.version))
            versions.append(Version(str(ref), held, columns, lake.made_at_ms(ref.name, ref.version)))
        elif ref.kind == "dataset" and ref.version:
            one = datasets.load(workspace, ref)
            told = {"sql": one.sql, "params": dict(one.parameters)}
            versions.append(Version(str(ref), hashed(one.files), used=tuple(map(str, one.inputs)), parameters=told))
        elif ref.kind == "model":
            versions.append(_model(workspace, ref, hashed))
    files = {name: hashed([folder / name])[0] for name in read if _is_inside(name)}
    return Carried(tuple(sorted(versions, key=lambda one: (one.at_ms, one.ref))), files), sources


def _model(workspace: Workspace, ref: Ref, hashed: Callable[[Iterable[Path]], tuple[str, ...]]) -> Version:
    model, maker = registry.load(workspace, ref), workspace.activities.maker(ref)
    paths = sorted(path for path in model.folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    names = tuple(path.relative_to(model.folder).as_posix() for path in paths)
    used, parameters = (maker.used, maker.parameters) if maker else ((), {})
    at_ms = int(float(model.card_data.get("created_at", 0)) * 1000)
    return Version(str(ref), hashed(paths), at_ms=at_ms, used=tuple(map(str, used)), parameters=parameters, names=names)


def _hash_of(gauge: Gauge, path: Path) -> str:
    found = hashlib.sha256()
    with path.open("rb") as source:
        for piece in gauge.read(source):
            found.update(piece)
    return found.hexdigest()


def unpack(carried: Carried, extract: Extract, workspace: Workspace, folder: Path) -> None:
    """Put the versions into a workspace that has none of these tables, and the plain files into a folder.

    Args:
        extract: writes the member of a hash to a path.

    Raises:
        InvalidInputError: what should be a version's files are none.
    """
    for version in carried.versions:
        ref = Ref.parse(version.ref)
        try:
            _UNPACK[ref.kind](version, ref, extract, workspace)
        except (ValueError, TypeError) as error:  # what pyarrow raises of files that are no Parquet, json of what is no card
            reason = str(error).strip().splitlines()[0][:100]
            raise InvalidInputError(
                f"The data of {version.ref} inside the file cannot be read: {reason}", "Ask for the file again."
            ) from error
    for name, digest in carried.files.items():
        extract(digest, folder / name)


def _unpack_table(version: Version, ref: Ref, extract: Extract, workspace: Workspace) -> None:
    space, table = ref.name.split(".")
    place = workspace.root / "lake" / space / table / "data"
    paths = _extracted(version.files, extract, place, str(ref.version))
    schema = _schema_of(version.schema)
    workspace.lake.commit(ref.name, schema, paths, known=Elsewhere(int(str(ref.version)), version.at_ms))


def _unpack_dataset(version: Version, ref: Ref, extract: Extract, workspace: Workspace) -> None:
    def write(folder: Path) -> Sequence[str]:
        _extracted(version.files, extract, folder, "part")
        return []

    used = [Ref.parse(one) for one in version.used]
    with workspace.activities.recording("query", name=ref.name, used=used, parameters=version.parameters) as draft:
        datasets.publish(workspace, draft, ref.name, write, ref.version)


def _unpack_model(version: Version, ref: Ref, extract: Extract, workspace: Workspace) -> None:
    def write(folder: Path) -> None:
        for name, digest in zip(version.names, version.files, strict=True):
            extract(digest, folder / name)
        card = json.loads((folder / "model.json").read_bytes())
        if not isinstance(card, dict) or card.get("uuid") != ref.name:
            raise ValueError("its card is of another model")

    publish_folder(workspace.models / ref.name, write)
    name = str(json.loads((workspace.models / ref.name / "model.json").read_bytes()).get("name"))
    used = [Ref.parse(one) for one in version.used]
    with workspace.activities.recording("train", name=name, used=used, parameters=version.parameters) as draft:
        draft.made.append(ref)


_UNPACK = {"table": _unpack_table, "dataset": _unpack_dataset, "model": _unpack_model}


def _extracted(digests: Iterable[str], extract: Extract, folder: Path, stem: str) -> list[str]:
    """Write files whose names sort as they are read: the order of rows that no query asks for is the order of files."""
    paths = [(digest, folder / f"{stem}-{number:05d}.parquet") for number, digest in enumerate(digests)]
    for digest, path in paths:
        extract(digest, path)
    return [str(path) for _, path in paths]


def write_member(pieces: Iterable[bytes], target: Path, digest: str) -> None:
    """Write the bytes of a member to a file, all or nothing.

    Raises:
        InvalidInputError: they are not what the hash says.
    """

    def write(temporary: Path) -> None:
        found = hashlib.sha256()
        with temporary.open("wb") as handle:
            for piece in pieces:
                found.update(piece)
                handle.write(piece)
        if found.hexdigest() != digest:
            raise InvalidInputError(f"The data {digest[:12]} was changed: it does not hold what its name says.", "Ask for the file again.")

    publish_file(target, write)


def _version(told: Mapping[str, Any]) -> Version:
    ref = Ref.parse(str(told["ref"]))
    files, names = tuple(map(_hash, told["files"])), tuple(_inside(str(name)) for name in told.get("names", ()))
    if not _is_carried(ref) or (ref.kind == "model" and ("model.json" not in names or len(set(names)) != len(files))):
        raise InvalidInputError(_UNSAFE.format(what=str(ref)[:80]), "Do not use this file.")
    if ref.kind == "dataset":
        datasets.check_name(ref.name)
    if ref.kind == "table":
        _schema_of(str(told["schema"]))  # what is none is said before anything runs
    used = tuple(str(Ref.parse(one)) for one in told["used"])
    return Version(str(ref), files, str(told["schema"]), int(told["at_ms"]), used, dict(told["parameters"]), names)


def _is_carried(ref: Ref) -> bool:
    if ref.kind == "model":
        return ref.version is None and registry.is_uuid(ref.name)
    known = is_name(ref.name) if ref.kind == "table" else ref.kind == "dataset"
    return known and bool(re.fullmatch(_VERSIONS[ref.kind], str(ref.version)))


def _hash(text: Any) -> str:
    if not isinstance(text, str) or not is_hash(text):
        raise InvalidInputError(_UNSAFE.format(what=str(text)[:80]), "Do not use this file.")
    return text


def _inside(name: str) -> str:
    if not _is_inside(name):
        raise InvalidInputError(_UNSAFE.format(what=name[:80]), "Do not use this file.")
    return name


def _is_inside(name: str) -> bool:
    """Whether a name means a file below the notebook's folder, and means the same everywhere."""
    parts = PurePosixPath(name).parts
    return bool(parts) and not name.startswith(("/", "~")) and ".." not in parts and not set(name) & {"\\", "\0"}


def _schema_text(schema: pa.Schema) -> str:
    return base64.b64encode(schema.serialize().to_pybytes()).decode()


def _schema_of(text: str) -> pa.Schema:
    import pyarrow as pa

    return pa.ipc.read_schema(pa.py_buffer(base64.b64decode(text, validate=True)))
