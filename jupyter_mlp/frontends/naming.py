"""What a word on a line stands for: a variable of the notebook, a reference, the text of a file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jupyter_mlp.core.errors import InvalidInputError
from jupyter_mlp.frontends.arguments import option

PARAMS = option("-p", "--params", action="append", metavar="NAME=VALUE", help="a parameter; NAME alone takes the notebook's variable")


def model_of(word: str, names: Mapping[str, Any]) -> str:
    """A variable that holds a run means the model it made."""
    value = names.get(word)
    model = getattr(value, "model", None)
    return str(model) if isinstance(model, str) else str(reference_of(word, names))


def reference_of(word: Any, names: Mapping[str, Any]) -> Any:
    """A variable that holds one of our objects means its exact reference."""
    from jupyter_mlp.core.cards import Shown

    value = names.get(word) if isinstance(word, str) else None
    return value.ref if isinstance(value, Shown) else word


def text_of(path: str | None) -> str | None:
    """The text of the file that was named, if one was."""
    if path is None:
        return None
    try:
        return Path(path).read_text(encoding="utf-8")
    except OSError as error:
        raise InvalidInputError(f"{path} cannot be read: {error.strerror}.", "Give the path of a text file.") from error
    except UnicodeDecodeError as error:
        raise InvalidInputError(f"{path} is no text in UTF-8.", "Give the path of a text file, saved as UTF-8.") from error
