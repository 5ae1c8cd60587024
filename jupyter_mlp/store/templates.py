"""Templates: what a site may want to write otherwise, filled in as text and never executed here.

They lie in `templates/` of the repository and of the wheel; `[cluster.NAME] template = PATH` takes another file.
"""

from __future__ import annotations

import string
from collections.abc import Mapping
from pathlib import Path

from jupyter_mlp.core.errors import InvalidInputError

_PACKAGE = Path(__file__).resolve().parents[1]


def rendered(name: str, words: Mapping[str, str], instead: str = "") -> str:
    """Return a template with its words filled in.

    Args:
        name: of one of ours, slurm/train.sbatch. `instead`: the path of a site's own.

    Raises:
        InvalidInputError: the file cannot be read, or names a word that nobody fills in.
    """
    path = Path(instead).expanduser() if instead else ours(name)
    try:
        return string.Template(path.read_text(encoding="utf-8")).substitute(words)
    except OSError as error:
        raise InvalidInputError(f"The template {path} cannot be read: {error.strerror}.", "Correct the path of the template.") from error
    except KeyError as error:
        raise InvalidInputError(
            f"The template {path} names {error.args[0]!r}, which nobody fills in.",
            f"Known: {', '.join(sorted(words))}. A dollar of the shell is written twice.",
        ) from error
    except ValueError as error:
        raise InvalidInputError(f"The template {path} has a dollar that names nothing: {error}.", "Write it twice.") from error


def ours(name: str) -> Path:
    """Return where a file or folder of ours lies."""
    installed = _PACKAGE / "templates" / name
    return installed if installed.exists() else _PACKAGE.parent / "templates" / name
