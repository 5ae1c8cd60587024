"""Files that lie elsewhere, as fsspec reaches them: how to open their place, what each one is now, and what went wrong in a sentence.

Who may read them is said by the environment (AWS_..., GOOGLE_APPLICATION_CREDENTIALS, FSSPEC_S3_KEY ..., ~/.config/fsspec), that of the
kernel and of each training process; a URL with a key in it is refused, because records and run folders keep URLs.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from typing import Any

from jupyter_mlp.core.errors import InvalidInputError, MissingPackageError, MLPError, NotFoundError, StorageError
from jupyter_mlp.store.fingerprints import fingerprint, public

_COPY = "%mlp_table NAME {url} copies the rows into the lake; then --data lake.NAME"
_NO_ACCESS = (401, 403, 407)
_GONE = (404, 410)
_BROKEN = (ConnectionError, TimeoutError, EOFError)


def is_place(text: str) -> bool:
    """Whether a text names files: a URL, or a path with a folder in it; no dataset and no table is called so."""
    return "://" in text or "/" in text


def is_remote(path: str) -> bool:
    """Whether a file lies on another machine than its readers."""
    return "://" in path


def local(path: str) -> str:
    """Return a path of this machine's as every process finds it."""
    return os.path.abspath(os.path.expanduser(path))


def opened(url: str, anew: bool = False) -> tuple[Any, str]:
    """Return the filesystem of a URL or path, and the path in it. One that speaks over one connection is the caller's alone.

    Args:
        anew: with the keys that the environment has now; those of a filesystem that is kept are of earlier.

    Raises:
        InvalidInputError: nobody knows such URLs, other processes could not read it, or a key is in it.
        MissingPackageError: the package that reaches it is not installed.
        Exception: one of the filesystem's own, which `sentence` says, where it connects at once.
    """
    from fsspec.core import url_to_fs
    from fsspec.registry import known_implementations

    if not is_remote(url):
        return url_to_fs(local(url))
    protocol = url.split("://", 1)[0]
    if "::" in url:
        raise InvalidInputError(f"{public(url)} lies in other files, and row groups cannot be read through those.", _copy(url))
    if public(url) != url:
        raise InvalidInputError(
            f"{public(url)} was given with a password or a query (behind a ?), which the job's record would keep.",
            "Leave it out: keys come from the environment, such as AWS_ACCESS_KEY_ID or FSSPEC_S3_KEY; a glob has * and [a-z].",
        )
    if protocol == "memory":
        raise InvalidInputError(
            "memory:// is the memory of this process, which a training process cannot read.", _COPY.format(url=public(url))
        )
    try:
        return url_to_fs(url, skip_instance_cache=anew or not bears_threads(url))
    except ImportError as error:
        package = _package(known_implementations.get(protocol, {}), str(error))
        raise MissingPackageError(f"{protocol}:// needs {package}, which is not installed.", f"pip install {package}") from error
    except ValueError as error:
        raise InvalidInputError(
            f"{public(url)} cannot be opened: {public(str(error))}.", "Give a path, or a URL such as s3://bucket/folder."
        ) from error


def bears_threads(url: str) -> bool:
    """Whether a filesystem answers several questions at once; otherwise it has one connection."""
    from fsspec import get_filesystem_class

    return bool(get_filesystem_class(url.split("://", 1)[0]).async_impl)


def names(url: str, paths: list[str]) -> Iterator[str]:
    """Yield the URL of each path that a filesystem told of the place `url`; of a local file its path."""
    scheme, _, rest = url.partition("://")
    host = rest.split("/")[0]
    for path in paths:
        if is_remote(path) or not rest or scheme in ("file", "local"):
            yield path
        else:  # paths of object stores begin with the bucket, those of servers know nothing of the host
            yield f"{scheme}://{path}" if path.split("/")[0] == host else f"{scheme}://{host}/{path.lstrip('/')}"


def info(system: Any, path: str) -> dict[str, Any]:
    """Return what a filesystem says of a file now."""
    system.invalidate_cache()  # what a list said earlier is not what the file is now
    found: dict[str, Any] = system.info(path)
    return found


def stamp(system: Any, path: str, told: dict[str, Any] | None = None) -> str:
    """Return what tells a file from every other that may lie in its place: size and time or tag, where it has none its footer.

    Args:
        told: what the filesystem said of it just now.
    """
    told = info(system, path) if told is None else told
    return str(fingerprint(system, path, footer=True if _is_local(system) else None, info=told).version)


def sentence(error: BaseException, url: str) -> MLPError:
    """Return an error of a filesystem's as a sentence, with what to type next."""
    if isinstance(error, MLPError):
        return error
    where = public(url)
    if is_gone(error):
        return NotFoundError(f"There is no {where}.", "Check the URL; a folder or a glob such as s3://bucket/trips/*.parquet works too.")
    if _refused(error):
        return StorageError(
            f"{where} may not be read with the keys of this environment.",
            "Set them here and where the training runs: AWS_ACCESS_KEY_ID and the like, ~/.aws/credentials, ~/.config/fsspec.",
        )
    return StorageError(f"{where} cannot be reached: {_reason(error)}.", "Check the URL and the network, and run it again.")


def _is_local(system: Any) -> bool:
    return "file" in ((system.protocol,) if isinstance(system.protocol, str) else system.protocol)


def is_lost(error: BaseException) -> bool:
    """Whether asking again may go well: the connection broke, or the server had no time."""
    return not isinstance(error, MLPError) and not is_gone(error) and not _refused(error)


def is_gone(error: BaseException) -> bool:
    """Whether the server said that there is no such file."""
    status = _status(error)
    if status is not None:  # fsspec says FileNotFoundError for every other one, too, and for a connection that broke
        return status in _GONE
    broken = any(isinstance(one, _BROKEN) or type(one).__module__.startswith("aiohttp") for one in _all(error))
    return isinstance(error, FileNotFoundError) and not broken


def _refused(error: BaseException) -> bool:
    return _status(error) in _NO_ACCESS or any(
        isinstance(one, PermissionError) or "Credential" in type(one).__name__ for one in _all(error)
    )


def _status(error: BaseException) -> int | None:
    """The HTTP status that is behind an error."""
    found = [status for one in _all(error) if isinstance(status := getattr(one, "status", None), int)]
    return found[0] if found else None


def _all(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__


def _reason(error: BaseException) -> str:
    last = list(_all(error))[-1]
    text = public(" ".join(str(last).split())).rstrip(".")
    return f"{type(last).__name__}: {text}"[:300] if text else type(last).__name__


def _copy(url: str) -> str:
    return _COPY.format(url=public(url))


def _package(known: dict[str, str], said: str) -> str:
    """The name to install, from fsspec's own table: the class of another package, or the quoted names of what ours needs."""
    home = str(known.get("class", "")).split(".")[0]
    quoted = re.findall(r'"([\w.-]+)"', str(known.get("err", "")) + said)
    return home if home not in ("", "fsspec") else " ".join(dict.fromkeys(quoted)) or "fsspec[full]"
