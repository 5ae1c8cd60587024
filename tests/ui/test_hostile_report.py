"""Nothing that a notebook holds executes where we show the notebook; `make proof ARGS=xss` plants two hundred."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import proof_xss
import pytest

COUNT = 20


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("hostile")
        patch.setenv("MLP_WORKSPACE", str(folder / "workspace"))
        yield dict(proof_xss.pages(folder, proof_xss.plant(COUNT)))


def test_no_payload_executes(made: dict[str, str], browser: Any, tmp_path: Path) -> None:
    seen = proof_xss.judge(made, proof_xss.Browser(browser.new_context(), tmp_path))
    assert proof_xss.wrong(seen, COUNT) == []
    assert len(seen) == len(made) + 3
