"""Who may ask an endpoint: whoever has its token, and for the pages that the settings open, everybody who reaches the port."""

from __future__ import annotations

import base64
import binascii
import hmac
from collections.abc import Iterable, Mapping
from typing import Any

_PAGES = {"metrics": ("/metrics",), "openapi": ("/openapi.json", "/docs")}  # what the setting `open_pages` may name


class Access:
    """The one check of every request but /health.

    Args:
        token: what callers send as `Authorization: Bearer ...`.
    """

    def __init__(self, token: str) -> None:
        self._bearer = f"Bearer {token}".encode()
        self._open: frozenset[str] = frozenset()

    def open(self, pages: Iterable[str]) -> None:
        """Let these pages, and no others, be read without the token."""
        self._open = frozenset(path for page in pages for path in _PAGES.get(page, ()))

    def bears(self, headers: Iterable[tuple[bytes, bytes]]) -> bool:
        """Whether a request has the token as its `Authorization: Bearer`."""
        for name, value in headers:
            if name == b"authorization":
                return hmac.compare_digest(value, self._bearer)
        return False

    def allows(self, scope: Mapping[str, Any]) -> bool:
        """Whether a request may be answered."""
        for name, value in scope["headers"]:
            if name == b"authorization":
                if hmac.compare_digest(value, self._bearer) or (scope["method"] == "GET" and self._is_password(value)):
                    return True
                break
        return scope["method"] == "GET" and scope["path"] in self._open

    def _is_password(self, value: bytes) -> bool:
        """Whether a browser sends the token as a password. For reading only: it would send it along from other sites too."""
        scheme, _, rest = value.partition(b" ")
        if scheme.lower() != b"basic":
            return False
        try:
            password = base64.b64decode(rest, validate=True).partition(b":")[2]
        except binascii.Error:
            return False
        return hmac.compare_digest(b"Bearer " + password, self._bearer)
