"""Publishing: the one way a file becomes visible. A name has all its bytes or does not exist.

    temp file beside the target -> write -> flush -> fsync -> sha256 -> os.replace -> fsync of the folder -> (record)

Readers trust records only, and the record is written last, so whatever a crash leaves behind is never read;
`leftovers` finds it for the next clean-up.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from jupyter_mlp.core.errors import StorageError, storage_error

TEMPORARY = ".mlp-tmp-"


def publish_bytes(target: Path, data: bytes) -> str:
    """Write `data` to `target`, all or nothing; return its sha256 as hexadecimal text.

    Raises:
        StorageError: the disk is full, read-only or failing. What stood at `target` before still does.
    """
    return publish_file(target, lambda temporary: temporary.write_bytes(data))


def publish_file(target: Path, write: Callable[[Path], object]) -> str:
    """Let `write` fill a temporary file beside `target`, then put it in place, all or nothing; return its sha256."""
    with _errors(target):
        _make_folder(target.parent)
        temporary = _beside(target)
        try:
            write(temporary)
            digest = _synced(temporary)
            os.replace(temporary, target)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        _sync_folder(target.parent)
        return digest


def publish_folder(target: Path, write: Callable[[Path], object]) -> dict[str, str]:
    """Let `write` fill a temporary folder beside `target`, then put it in place; return {relative path: sha256}.

    `target` must not exist: folders are immutable. If another process published it first, theirs stays.
    """
    with _errors(target):
        _make_folder(target.parent)
        temporary = _beside(target)
        temporary.mkdir(mode=0o700)
        try:
            write(temporary)
            hashes = _synced_tree(temporary)
            try:
                os.rename(temporary, target)
            except OSError:
                if not target.is_dir():
                    raise
                shutil.rmtree(temporary, ignore_errors=True)
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            raise
        _sync_folder(target.parent)
        return hashes


class Artifacts:
    """Immutable bytes named by their content, under one folder.

    Example:
        >>> key = artifacts.put(b"SELECT 1")
        >>> artifacts.get(key)
        b'SELECT 1'
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    def put(self, data: bytes, suffix: str = "") -> str:
        """Store `data` once; return its sha256, which is its name. A `suffix` such as .html is for those who open the file."""
        digest = hashlib.sha256(data).hexdigest()
        target = self.path(digest, suffix)
        with suppress(OSError):  # it is not there, or another user's, or on a read-only disk
            os.utime(target)  # a clean-up leaves young ones alone: no record of ours names it yet
        if not target.exists():
            publish_bytes(target, data)
        return digest

    def get(self, digest: str, suffix: str = "") -> bytes:
        """Return the bytes named `digest`, checked.

        Raises:
            StorageError: they are missing or were changed on disk.
        """
        target = self.path(digest, suffix)
        try:
            data = target.read_bytes()
        except FileNotFoundError:
            raise StorageError(f"The artifact {digest[:12]} is missing from {self.root}.", "Restore the workspace from a backup.") from None
        if hashlib.sha256(data).hexdigest() != digest:
            raise StorageError(f"The artifact {digest[:12]} was changed on disk.", f"Restore {target} from a backup.")
        return data

    def path(self, digest: str, suffix: str = "") -> Path:
        """Return where the bytes named `digest` live."""
        return self.root / digest[:2] / f"{digest}{suffix}"


def sha256_of(path: Path) -> str:
    """Return the sha256 of a file's bytes."""
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def leftovers(root: Path) -> Iterator[Path]:
    """Yield what interrupted publications left under `root`; nothing ever reads it."""
    for folder, folders, files in os.walk(root):
        for name in (*folders, *files):
            if name.startswith(TEMPORARY):
                yield Path(folder) / name
        folders[:] = [name for name in folders if not name.startswith(TEMPORARY)]


def _beside(target: Path) -> Path:
    return target.parent / f"{TEMPORARY}{os.urandom(16).hex()}"


def _make_folder(folder: Path) -> None:
    missing = [path for path in (folder, *folder.parents) if not path.is_dir()]
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    for made in missing:
        _sync_folder(made.parent)  # or a power cut takes the new folder, and with it what was published inside


def _synced_tree(folder: Path) -> dict[str, str]:
    hashes = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            hashes[path.relative_to(folder).as_posix()] = _synced(path)
    for path in [p for p in folder.rglob("*") if p.is_dir()] + [folder]:
        _sync_folder(path)
    return hashes


def _synced(path: Path) -> str:
    with path.open("rb") as handle:
        os.fsync(handle.fileno())
        return hashlib.file_digest(handle, "sha256").hexdigest()


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def _errors(target: Path) -> Iterator[None]:
    try:
        yield
    except StorageError:
        raise
    except OSError as error:
        error.filename = error.filename or str(target)  # a write that finds no room names no file
        raise storage_error(error, f"writing {target.name}") from error
