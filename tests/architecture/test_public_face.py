"""The promised names, the schema's head, and what the documents point at."""

from __future__ import annotations

import inspect
import re
import subprocess
from importlib.metadata import entry_points
from pathlib import Path

import pytest

import jupyter_mlp
from jupyter_mlp.core import plugins
from jupyter_mlp.frontends.verbs import VERBS
from jupyter_mlp.store import database, migrations

ROOT = Path(__file__).parents[2]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("templates/**/*.md")])
VERBS_PROMISED = {
    "query", "dataset", "write_table", "train", "run", "evaluate", "deploy", "predict", "monitor",
    "snapshot", "verify", "to_pipeline", "graph", "status", "doctor", "MLPError",
}  # fmt: skip


def test_every_promised_name_is_there() -> None:
    assert set(jupyter_mlp.__all__) >= VERBS_PROMISED
    for name in jupyter_mlp.__all__:
        value = getattr(jupyter_mlp, name)
        assert callable(value), name
        assert inspect.getdoc(value), f"{name} does not say what the caller gets"


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'trian'"):
        _ = jupyter_mlp.trian


def test_the_step_modules_are_not_hidden_by_functions() -> None:
    from jupyter_mlp import data, deployment, evaluation, monitoring, prediction, training

    assert all(inspect.ismodule(module) for module in (data, training, evaluation, deployment, prediction, monitoring))


def test_the_newest_migration_is_the_one_we_expect() -> None:
    assert migrations.heads() == (database.HEAD,)


def test_entry_points_name_what_exists() -> None:
    ours = [point for point in entry_points(group="jupyter_mlp.launchers") if point.name == "local"]
    assert [point.load() for point in ours] == [plugins.load("launchers", "local")]
    commands = [point for point in entry_points(group="console_scripts") if point.name == "mlp"]
    assert [point.value for point in commands] == ["jupyter_mlp.frontends.cli:main"]


def test_every_verb_has_help_and_an_example() -> None:
    assert all(verb.summary and verb.example for verb in VERBS)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_documents_point_at_what_exists(document: Path) -> None:
    text = document.read_text(encoding="utf-8")
    links = [link.split("#")[0] for link in re.findall(r"\]\(([^)\s]+)\)", text) if "://" not in link and not link.startswith("#")]
    assert [link for link in links if link and not (document.parent / link).exists()] == []
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"`make ([a-z]+)", text)) <= targets
    assert set(re.findall(r"%mlp_([a-z]+)", text)) <= {verb.name for verb in VERBS}
    assert set(re.findall(r"`mlp ([a-z]+)", text)) <= {verb.name for verb in VERBS}


def test_make_alone_lists_every_target() -> None:
    makefile = (ROOT / "Makefile").read_text()
    wanted = set(re.findall(r"^\.PHONY: (.*)$", makefile, re.MULTILINE)[0].split())
    shown = subprocess.run(["make", "--no-print-directory"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert set(re.findall(r"make ([a-z]+) ", shown)) == wanted
