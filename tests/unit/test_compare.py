"""What counts as the same output."""

from __future__ import annotations

import base64
import io
from typing import Any

import pytest
from PIL import Image, PngImagePlugin

from jupyter_mlp.notebook import compare
from jupyter_mlp.notebook.compare import DIFFERENT, EQUAL, IDENTICAL, NOT_COMPARABLE


def text(value: str) -> dict[str, Any]:
    return {"output_type": "stream", "name": "stdout", "text": value}


def shown(**data: Any) -> dict[str, Any]:
    return {"output_type": "display_data", "data": {name.replace("_", "/"): value for name, value in data.items()}}


def ours(**value: Any) -> dict[str, Any]:
    return {"output_type": "execute_result", "data": {compare.OURS: value, "text/plain": str(value)}}


def png(colour: str, software: str) -> str:
    held, told = io.BytesIO(), PngImagePlugin.PngInfo()
    told.add_text("Software", software)
    Image.new("RGB", (4, 4), colour).save(held, "PNG", pnginfo=told)
    return base64.b64encode(held.getvalue()).decode()


@pytest.mark.parametrize(
    ("before", "after", "verdict"),
    [
        ("a 1.0\n", "a 1.0", IDENTICAL),
        ("<Net at 0x7f0a12bc3d40>", "<Net at 0x7f9988776655>", IDENTICAL),
        ("\x1b[31mred\x1b[0m", "red", IDENTICAL),
        ("loss 0.123456789", "loss 0.123456788", EQUAL),
        ("1,234.5 rows", "1,234.5001 rows", EQUAL),
        ("loss 0.1234", "loss 0.1244", DIFFERENT),
        ("1 row", "2 rows", DIFFERENT),
        ("a\nb", "a", DIFFERENT),
    ],
)
def test_texts(before: str, after: str, verdict: str) -> None:
    assert compare.outputs([text(before)], [text(after)]).verdict == verdict


def test_streams_are_joined_and_standard_error_is_left_out() -> None:
    warning = {"output_type": "stream", "name": "stderr", "text": "took 3 s"}
    assert compare.outputs([text("a"), warning, text("b")], [text("ab")]).verdict == IDENTICAL


def test_progress_is_left_out() -> None:
    bar = {"output_type": "display_data", "data": {compare.PROGRESS: {}, "text/plain": "3 s"}}
    assert compare.outputs([bar, text("a")], [text("a")]).verdict == IDENTICAL
    assert compare.outputs([bar], []).verdict == IDENTICAL


def test_pictures_by_their_pixels() -> None:
    same = compare.outputs([shown(image_png=png("red", "one 1.0"))], [shown(image_png=png("red", "two 2.0"))])
    assert same.verdict == IDENTICAL
    assert compare.outputs([shown(image_png=png("red", "one"))], [shown(image_png=png("blue", "one"))]).verdict == DIFFERENT
    assert compare.outputs([shown(image_png="AAAA")], [shown(image_png="BBBB")]).verdict == NOT_COMPARABLE


def test_our_objects_by_what_must_be_the_same() -> None:
    one = {
        "kind": "dataset",
        "ref": "dataset:t@1",
        "rows": 3,
        "columns": [],
        "content": "rows:3:ab",
        "inputs": ["table:t@1"],
        "seconds": 1.0,
    }
    assert compare.outputs([ours(**one)], [ours(**{**one, "seconds": 9.0, "ref": "dataset:t@2", "reused": True})]).verdict == IDENTICAL
    other = compare.outputs([ours(**one)], [ours(**{**one, "content": "rows:3:cd"})])
    assert other.verdict == DIFFERENT and other.detail.startswith("content")
    near = {"kind": "evaluation", "metrics": {"mae": 1.0}}
    assert compare.outputs([ours(**near)], [ours(kind="evaluation", metrics={"mae": 1.0 + 1e-9})]).verdict == EQUAL
    assert compare.outputs([ours(kind="report", a=1)], [ours(kind="report", a=2)]).verdict == NOT_COMPARABLE


def test_more_or_other_outputs_are_a_difference() -> None:
    assert compare.outputs([text("a")], []).verdict == DIFFERENT
    assert compare.outputs([text("a")], [shown(text_plain="a")]).verdict == DIFFERENT
    error = {"output_type": "error", "ename": "ValueError", "evalue": "no", "traceback": []}
    assert compare.outputs([error], [error]).verdict == IDENTICAL
    assert compare.outputs([], []).verdict == IDENTICAL


def test_the_worst_output_counts() -> None:
    assert compare.outputs([text("a"), shown(text_plain="1.0")], [text("a"), shown(text_plain="2.0")]).verdict == DIFFERENT


def test_what_was_made_again_and_is_the_same_keeps_its_name_of_before() -> None:
    def shown(ref: str, content: str) -> list[dict[str, object]]:
        told = {"kind": "table", "ref": ref, "rows": 2, "columns": ["a"], "content": content}
        return [{"output_type": "execute_result", "data": {compare.OURS: told}}]

    assert compare.same_things(shown("table:lake.t@1", "c"), shown("table:lake.t@2", "c")) == {"table:lake.t@2": "table:lake.t@1"}
    assert compare.same_things(shown("table:lake.t@1", "c"), shown("table:lake.t@2", "d")) == {}
    assert compare.same_things(shown("table:lake.t@1", ""), shown("table:lake.t@2", "")) == {}, "too large to know"


def test_a_drawing_is_the_same_whenever_it_was_drawn_and_whatever_its_ids_are() -> None:
    def drawn(values: list[int], date: str) -> dict[str, Any]:
        import io

        import matplotlib.figure

        figure, text = matplotlib.figure.Figure(), io.StringIO()
        figure.subplots().scatter(values, values)
        figure.savefig(text, format="svg", metadata={"Date": date})
        return {"output_type": "display_data", "data": {"image/svg+xml": text.getvalue()}, "metadata": {}}

    one, again, other = drawn([1, 2, 4], "2026-01-01"), drawn([1, 2, 4], "2026-01-02"), drawn([1, 3, 4], "2026-01-01")
    assert one["data"] != again["data"]
    assert compare.outputs([one], [again]).verdict == compare.IDENTICAL
    assert compare.outputs([one], [other]).verdict == compare.DIFFERENT


def test_how_fast_a_cell_was_is_no_result() -> None:
    def timed(cell: str) -> str:
        from IPython.core.interactiveshell import InteractiveShell
        from IPython.utils.capture import capture_output

        with capture_output() as said:
            InteractiveShell.instance().run_cell(cell)
        return str(said.stdout)

    for cell in ("%time sum(range(1000))", "%%time\nprint(sum(range(1000)))", "%timeit -n 20 -r 2 sum(range(1000))"):
        one, other = timed(cell), timed(cell.replace("-n 20", "-n 30"))
        assert "ime" in one or "per loop" in one
        assert compare.texts(one, other).verdict == IDENTICAL, (one, other)
    assert compare.texts(timed("%%time\nprint(1)"), timed("%%time\nprint(2)")).verdict == DIFFERENT
    assert compare.texts("Wall time was short: 3", "Wall time was short: 4").verdict == DIFFERENT
