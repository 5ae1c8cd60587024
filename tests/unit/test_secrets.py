"""Secrets stop a snapshot, wherever they stand; ordinary cells do not."""

from __future__ import annotations

import base64
import random
import string
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbformat

from jupyter_mlp.notebook import secrets

VALUES = {"TEAM_PASSWORD": "correct-horse", "WANDB_API_KEY": "0123456789abcdef0123456789abcdef01234567"}
SINKS = ("source", "markdown", "stdout", "stderr", "result", "html", "json", "error", "metadata", "notebook", "parameter", "plot")


def planted(draw: random.Random) -> Iterator[str]:
    """Secrets as they stand in notebooks."""
    letters = string.ascii_letters + string.digits

    def word(length: int, alphabet: str = letters) -> str:
        return "".join(draw.choice(alphabet) for _ in range(length))

    while True:
        yield f"AKIA{word(16, string.ascii_uppercase + string.digits)}"
        yield f"ghp_{word(36)}"
        yield f"xoxb-{word(12, string.digits)}-{word(24)}"
        yield f"AIza{word(35)}"
        yield f"sk-proj-{word(40)}"
        yield f"hf_{word(34)}"
        yield f"password = '{word(12)}7aB'"
        yield f"postgresql://ann:{word(10)}@db.example.org/flights"
        yield f"-----BEGIN RSA PRIVATE KEY-----\n{word(64)}"
        yield f"Authorization: Bearer {word(30)}9"
        yield f"key = '{base64.b64encode(draw.randbytes(32)).decode()}'"
        yield VALUES["TEAM_PASSWORD"]
        yield VALUES["WANDB_API_KEY"]
        yield f"eyJ{word(20)}.eyJ{word(30)}.{word(40)}"


def put(secret: str, sink: str) -> tuple[Any, dict[str, Any]]:
    """A notebook, and parameters, with the secret in one place."""
    cell, text = nbformat.v4.new_code_cell("x = 1"), nbformat.v4.new_markdown_cell("# Title")
    node = nbformat.v4.new_notebook(cells=[text, cell])
    data = {"result": "text/plain", "html": "text/html", "json": "application/json", "plot": "image/svg+xml"}
    if sink == "source":
        cell.source = f"# {secret}" if "\n" not in secret else f"'''{secret}'''"
    elif sink == "markdown":
        text.source = secret
    elif sink in ("stdout", "stderr"):
        cell.outputs = [nbformat.v4.new_output("stream", name=sink, text=secret)]
    elif sink in data:
        value = {"told": [secret]} if sink == "json" else f"<b>{secret}</b>" if sink == "html" else secret
        cell.outputs = [nbformat.v4.new_output("display_data", data={data[sink]: value})]
    elif sink == "error":
        cell.outputs = [nbformat.v4.new_output("error", ename="E", evalue=secret, traceback=[secret])]
    elif sink == "metadata":
        cell.metadata["note"] = secret
    elif sink == "notebook":
        node.metadata["note"] = secret
    return node, {"token": secret} if sink == "parameter" else {}


def found(node: Any, parameters: dict[str, Any]) -> list[secrets.Found]:
    return [*secrets.in_notebook(node, VALUES), *secrets.in_values(parameters, "the parameter", VALUES)]


def test_200_planted_secrets_are_found_in_every_sink_and_not_repeated() -> None:
    draw = random.Random(5)
    source = planted(draw)
    missed = []
    for number in range(204):
        secret, sink = next(source), SINKS[number % len(SINKS)]
        told = found(*put(secret, sink))
        missed += [] if told else [(secret, sink)]
        assert not any(secret in str(one) for one in told)
    assert missed == []


def test_a_thousand_ordinary_cells_stop_nothing() -> None:
    """Cells cut from the standard library and from installed packages: at most 1 % are taken for secrets."""
    cells: list[str] = []
    for folder in (sysconfig.get_path("stdlib"), sysconfig.get_path("purelib") + "/numpy", sysconfig.get_path("purelib") + "/nbformat"):
        for path in sorted(Path(folder).glob("*.py")):
            lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
            cells += ["\n".join(lines[at : at + 25]) for at in range(0, len(lines), 25)]
    random.Random(1).shuffle(cells)
    assert len(cells) > 1000
    wrong = [(cell, told) for cell in cells[:1000] if (told := list(secrets.in_text(cell, "cell", VALUES)))]
    assert len(wrong) <= 10, wrong


def test_what_libraries_draw_of_their_objects_is_no_secret() -> None:
    """A model of scikit-learn, a table, a drawing: whoever shows one must still be able to take a snapshot."""
    import io

    import matplotlib.figure
    import pandas as pd
    import polars as pl
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from sklearn.tree import DecisionTreeRegressor

    drawing = io.StringIO()
    figure = matplotlib.figure.Figure()
    figure.subplots().plot([1, 2], [3, 4])
    figure.savefig(drawing, format="svg")
    shown = [make_pipeline(StandardScaler(), DecisionTreeRegressor()), pd.DataFrame({"a": [1]}), pl.DataFrame({"a": [1]})]
    for text in [*(one._repr_html_() for one in shown), drawing.getvalue()]:
        assert list(secrets.in_text(text, "output", VALUES)) == []
    draw = random.Random(2)
    long = ["".join(draw.choice(string.ascii_letters + string.digits + "_-") for _ in range(93)) for _ in range(1000)]
    for key in (*(f"sk-ant-api03-{one}" for one in long), "sk-or-v1-" + "0a" * 32, "sk-" + "aB3" * 16):
        assert [one.kind for one in secrets.in_text(key, "output", {})][:1] == ["OpenAI or Anthropic key"], key


def test_what_notebooks_show_all_the_time_is_no_secret() -> None:
    for text in (
        "dataset:trips@80fa3931d2ab4c5d80fa3931d2ab4c5d",
        "snapshot:883d13fc6201aa12883d13fc6201aa12",
        "'model:eac3a9c7-3a4a-4ea4-b7bd-6356fbbee48e'",
        "password = os.environ['DB_PASSWORD']",
        "token = 'YOUR_TOKEN_HERE'",
        "api_key = get_secret('x')",
        "postgresql://USER:PASSWORD@HOST/DB",
        "digest == '2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881'",
        "tokenizer = 'bert-base-uncased'",
    ):
        assert list(secrets.in_text(text, "cell", VALUES)) == [], text


def test_a_tag_says_that_it_is_none_and_variables_are_chosen_by_name() -> None:
    node, _ = put("AKIAABCDEFGHIJKLMNOP", "source")
    assert found(node, {})
    node.cells[1].metadata["tags"] = [secrets.TAG]
    assert not found(node, {})
    environment = {"DB_PASSWORD": "abcdefgh1", "HOME": "/root", "SHORT_TOKEN": "x", "MINE": "abcd"}
    assert secrets.sensitive(["MINE"], environment) == {"DB_PASSWORD": "abcdefgh1", "MINE": "abcd"}
