"""Secrets in what a snapshot would keep: known patterns, values of this process's environment, and texts that look like keys.

What is found is said by its place and its kind; the secret itself is never repeated. A cell tagged `not-secret` is left alone.
"""

from __future__ import annotations

import json
import math
import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

TAG = "not-secret"
_KNOWN = {
    "AWS access key": r"\b(?:AKIA|ASIA)[A-Z0-9]{16}\b",
    "GitHub token": r"\b(?:gh[pousr]_[A-Za-z0-9]{36,}|github_pat_\w{40,})\b",
    "GitLab token": r"\bglpat-[\w-]{20,}",
    "Slack token": r"\bxox[abeoprs]-[\w-]{10,}",
    "Slack webhook": r"hooks\.slack\.com/services/T\w+/B\w+/\w+",
    "Google API key": r"\bAIza[\w-]{35}",
    "OpenAI or Anthropic key": r"\bsk-(?=[\w-]*\d)(?=[\w-]*[A-Za-z0-9]{12})[\w-]{20,}",  # and not scikit-learn's sk-toggleable__label-arrow
    "Hugging Face token": r"\bhf_[A-Za-z0-9]{30,}\b",
    "Stripe key": r"\b[rs]k_(?:live|test)_[A-Za-z0-9]{16,}",
    "PyPI token": r"\bpypi-[\w-]{50,}",
    "npm token": r"\bnpm_[A-Za-z0-9]{36}\b",
    "SendGrid key": r"\bSG\.[\w-]{16,}\.[\w-]{16,}",
    "Databricks token": r"\bdapi[0-9a-f]{32}\b",
    "JSON web token": r"\beyJ[\w-]{8,}\.eyJ[\w-]{8,}\.[\w-]{8,}",
    "private key": r"-----BEGIN (?:[A-Z]+ )?PRIVATE KEY",
    "password in a URL": r"\b[a-z][a-z0-9+.-]{1,20}://[^\s:/@'\"{}<>$]+:(?!\*+@|x+@|password@|PASSWORD@|\.\.\.@)[^\s:/@'\"{}<>$]{3,}@[\w.-]+",
    "bearer token": r"(?i)\bbearer\s+(?=[\w.~+/-]*\d)[\w.~+/-]{20,}=*",
}
_PATTERNS = {kind: re.compile(pattern) for kind, pattern in _KNOWN.items()}
_NAMED = re.compile(
    r"(?i)(?:^|[^a-z0-9])(?:[a-z0-9_]*(?:password|passwd|secret|api_?key|access_?key|auth_?token|access_?token|private_?key|credential)s?|pwd|token)"
    r"[\"']?\s*(?:=(?!=)|:(?!:))\s*[rbfu]?[\"'](?P<value>[^\"'\s{}$<>]{8,})[\"']"
)
_QUOTED = re.compile(r"[\"'](?P<value>[A-Za-z0-9+/_=-]{28,200})[\"']")
_PLACEHOLDER = re.compile(
    r"(?i)^(?:x+|\*+|\.+|change.?me|your.*|example.*|dummy.*|test.*|none|null|placeholder.*|my.?(?:password|secret).*)$|^[<\[{$%]"
)
_SENSITIVE = re.compile(r"(?i)(?:pass(?:word|wd)?|secret|token|api_?key|access_?key|private_?key|credential)s?(?:$|_)")
_LEAST = 8  # characters of an environment's value that is looked for
_ENTROPY = 4.3  # bits a character of what looks random: base64 of random bytes has about 5


@dataclass(frozen=True)
class Found:
    """A secret: where it stands, what kind it is."""

    where: str
    kind: str

    def __str__(self) -> str:
        return f"{self.where}: {self.kind}"


def sensitive(names: Iterable[str] = (), environment: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Return the environment's values that no snapshot may show, by the name of their variable.

    Args:
        names: variables that count whatever they are called (the setting `secret_keys`).
    """
    wanted = {name.strip() for name in names if name.strip()}
    found = {name: value for name, value in environment.items() if name in wanted or _SENSITIVE.search(name)}
    return {name: value for name, value in found.items() if len(value) >= (4 if name in wanted else _LEAST) and not value.startswith("/")}


def in_text(text: str, where: str, values: Mapping[str, str]) -> Iterator[Found]:
    """Yield the secrets of a text, each kind once."""
    for name, value in values.items():
        if value in text:
            yield Found(where, f"the value of {name}")
    for kind, pattern in _PATTERNS.items():
        if pattern.search(text):
            yield Found(where, kind)
    if any(not _PLACEHOLDER.search(found["value"]) and _is_value(found["value"]) for found in _NAMED.finditer(text)):
        yield Found(where, "a text that is set as a password or key")
    if any(_looks_random(found["value"]) for found in _QUOTED.finditer(text)):
        yield Found(where, "a text that looks like a key")


def in_notebook(node: Any, values: Mapping[str, str]) -> Iterator[Found]:
    """Yield the secrets of a notebook: sources, outputs, metadata."""
    number = 0
    for cell in node.cells:
        number += cell.cell_type == "code"
        name = f"cell {number}" if cell.cell_type == "code" else f"the text after cell {number}"
        if TAG in cell.metadata.get("tags", ()):
            continue
        yield from in_text(cell.source, f"{name}, source", values)
        yield from in_text(json.dumps(cell.metadata, ensure_ascii=False), f"{name}, metadata", values)
        for output in cell.get("outputs", ()):
            yield from in_text("\n".join(_texts(output)), f"{name}, output", values)
    yield from in_text(json.dumps(node.metadata, ensure_ascii=False), "the notebook's metadata", values)


def in_values(given: Mapping[str, Any], where: str, values: Mapping[str, str]) -> Iterator[Found]:
    """Yield the secrets among named values: parameters, settings."""
    for name, value in given.items():
        yield from in_text(f"{name} = {value!r}", f"{where} {name}", values)


def _texts(output: Any) -> Iterator[str]:
    """The texts of an output; of pictures only what somebody wrote into them in clear."""
    for key in ("text", "ename", "evalue", "traceback"):
        if key in output:
            yield _joined(output[key])
    for mime, data in output.get("data", {}).items():
        if not mime.startswith("image/") or mime == "image/svg+xml":
            yield re.sub(r"data:image/[a-z+]+;base64,[A-Za-z0-9+/=]+", "", _joined(data))
    yield json.dumps(output.get("metadata", {}), ensure_ascii=False)


def _joined(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, list) and all(isinstance(one, str) for one in value):
        return "".join(value)
    return json.dumps(value, ensure_ascii=False)


def _is_value(text: str) -> bool:
    """Whether a text can be a password: it is no name, no sentence, no path."""
    return len(set(text)) > 4 and not re.fullmatch(r"[a-z_ .-]+|[A-Z_]+|/[\w./-]*", text)


def _looks_random(text: str) -> bool:
    """Whether a text mixes cases and digits as random bytes do; hashes and ids (hexadecimal) are shown all the time."""
    if re.fullmatch(r"[0-9a-fA-F-]+|[a-z_-]+|[A-Z_-]+|[0-9]+", text) or not (
        re.search(r"[a-z]", text) and re.search(r"[A-Z]", text) and len(re.findall(r"[0-9]", text)) >= 3
    ):
        return False
    words = re.findall(r"[A-Z]?[a-z]{4,}", text)  # names in CamelCase and snake_case
    if sum(map(len, words)) > len(text) / 3 or "/" in text[:1] or len(set("ABCDEFGHIJKLMNOPQRSTUVWXYZ") & set(text)) > 24:
        return False
    counts = Counter(text)
    entropy = -sum(n / len(text) * math.log2(n / len(text)) for n in counts.values())
    return entropy >= min(_ENTROPY, math.log2(len(text)) - 0.75)
