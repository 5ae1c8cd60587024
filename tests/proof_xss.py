"""Two hundred payloads in everything that a notebook holds: none executes when what we make of the notebook is opened in Chromium.

A notebook with a payload in every place is snapshotted, its snapshot is exported, and payloads are put into what only a forged file can
hold (its name, packages, reasons, versions); the file is verified. Then a browser opens the report, the cards of everything that shows the
notebook, and its executed copy as the sidebar shows it, and every element is clicked and pointed at. The report is protected twice, so
each protection is also tried alone; and with neither of them payloads must execute, or the browser would have looked away.

python tests/proof_xss.py [--payloads 200]
"""

from __future__ import annotations

import argparse
import html
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import nbformat

FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-sync"]
# x(N) is a function that the browser has and that tells us N. The report shows about sixty characters of a text.
FORMS = (
    "<img src=x onerror=x({n})>", "<script>x({n})</script>", "<svg onload=x({n})>", "'\"><img src=x onerror=x({n})>",
    "<b onclick=x({n})>b</b>",
    "<IMG/SRC=x/oNeRrOr=x({n})>", "</td></table><script>x({n})</script>", "</style><script>x({n})</script>", "</title><svg onload=x({n})>",
    "<details open ontoggle=x({n})>d", "<input autofocus onfocus=x({n})>", "<iframe srcdoc='<script>x({n})</script>'>",
    "<iframe src=javascript:x({n})></iframe>", "<a href=javascript:x({n})>a</a>", "<a href='java&#9;script:x({n})'>a</a>",
    "<svg><a xlink:href=javascript:x({n})><text>t</text></a>", "<svg><script>x({n})</script></svg>", "<object data=javascript:x({n})>",
    "<embed src=javascript:x({n})>", "<form action=javascript:x({n})><button>b", "<video><source onerror=x({n})></video>",
    "<body onload=x({n})>", "--><script>x({n})</script><!--", "]]><img src=x onerror=x({n})>", "<style onload=x({n})></style>",
    "<math><mtext><img src=x onerror=x({n})>", "<b onmouseover=x({n})>b</b>", "\u00ad<img src=x onerror=x({n})>",
    "&lt;img src=x onerror=x({n})&gt;",
    "<noscript><p title='</noscript><img src=x onerror=x({n})>'>",
)  # fmt: skip
CLICK = """async () => {
  for (const one of document.querySelectorAll('body *')) {
    for (const kind of ['mouseover', 'focus', 'toggle', 'pointerenter']) one.dispatchEvent(new Event(kind));
    if (!['FORM', 'BUTTON'].includes(one.tagName)) one.click?.();
  }
  await new Promise(done => setTimeout(done, 100));
}"""
_OURS = "application/vnd.jupyter-mlp+json"


def cell(source: str, tags: tuple[str, ...] = (), **metadata: Any) -> Any:
    return nbformat.v4.new_code_cell(source, metadata={"tags": list(tags), **metadata})


def _shown(kind: str) -> Any:
    """A sink: an output of this kind, another one in every run, so that the report tells of it."""
    return lambda text: cell(f"# an output\ndisplay({{{kind!r}: {text!r} + str(next(ticks))}}, raw=True)")


def _of_ours(kind: str, **told: str) -> Any:
    """A sink: an object that says it is ours."""

    def made(text: str) -> Any:
        values = {"kind": kind, "name": text, "ref": text, **{name: form.format(text) for name, form in told.items()}}
        shown = f"{values!r} | {{'rows': next(ticks), 'metrics': {{{text!r}: next(ticks)}}}}"
        return cell(f"# of ours\ndisplay({{{_OURS!r}: {shown}}}, raw=True)")

    return made


SINKS: Mapping[str, Any] = {
    "markdown": lambda text: nbformat.v4.new_markdown_cell(f"# {text}"),
    "source": lambda text: cell(f"# {text}\nnext(ticks)"),
    "stream": lambda text: cell(f"print({text!r}, next(ticks))"),
    "standard error": lambda text: cell(f"import sys\nprint({text!r}, next(ticks), file=sys.stderr)"),
    "text": lambda text: cell(f"class Odd:\n    def __repr__(self): return {text!r} + str(next(ticks))\nOdd()"),
    "html": _shown("text/html"),
    "svg": _shown("image/svg+xml"),
    "latex": _shown("text/latex"),
    "json": _shown("application/json"),
    "vega": lambda text: cell(f"display({{'application/vnd.vegalite.v5+json': {{'title': {text!r}, 'n': next(ticks)}}}}, raw=True)"),
    "kind of output": lambda text: cell(f"display({{{'text/' + text!r}: str(next(ticks))}}, raw=True)"),
    "traceback": lambda text: cell(f"raise type({text!r}, (Exception,), {{}})({text!r} + str(next(ticks)))", ("raises-exception",)),
    "new failure": lambda text: cell(f"import os\nif 'MLP_VERIFY' in os.environ: raise ValueError({text!r})", ("raises-exception",)),
    "metadata": lambda text: cell("1", (), name=text, **{text: text}),
    "tag": lambda text: cell("2", (text.replace(" ", "/"),)),
    "table": _of_ours("table", content="{0}"),
    "dataset": _of_ours("dataset", inputs="table:{0}@1", sql="SELECT '{0}'"),
    "model": _of_ours("run", model="model:{0}"),
    "unknown object": lambda text: _of_ours(text)(text),
    "name in the platform": lambda text: cell(f"if False:\n    from jupyter_mlp import dataset\n    rows = dataset({text!r})"),
}


@dataclass
class Planted:
    """The notebook, what was put into it, and what a forged file adds."""

    cells: list[Any]
    texts: list[str]
    forged: list[str] = field(default_factory=list)


def plant(count: int) -> Planted:
    """A notebook with so many payloads, each form in every second sink and all of them in what there is one of."""
    sinks = [*SINKS.items()]
    texts = [FORMS[number % len(FORMS)].format(n=number) for number in range(count)]
    # The ticks go up with the wall clock: another run shows other numbers, and every cell with one differs.
    begin = cell("import itertools, time\nticks = itertools.count(time.time_ns())")
    given = cell("\n".join(f"given_{number} = {text!r}" for number, text in enumerate(texts[:30])), ("parameters",))
    step = len(FORMS) // len(sinks) + 1  # each form meets another sink in each round
    placed = [sinks[(number + number // len(FORMS) * step) % len(sinks)][1](text) for number, text in enumerate(texts)]
    return Planted([begin, given, *placed], texts, [form.format(n=count + number) for number, form in enumerate(FORMS)])


def pages(folder: Path, planted: Planted) -> Iterator[tuple[str, str]]:
    """Everything that we make of the notebook as HTML, by name."""
    from nbclient import NotebookClient

    import jupyter_mlp as mlp
    from jupyter_mlp import snapshots
    from jupyter_mlp.core.references import Ref
    from jupyter_mlp.frontends import listings
    from jupyter_mlp.frontends.display import as_html
    from jupyter_mlp.store import archives
    from jupyter_mlp.store import snapshots as stored
    from jupyter_mlp.store.workspace import current

    name = next(form for form in planted.forged if "/" not in form)
    path = folder / f"{name}.ipynb"
    node = nbformat.v4.new_notebook(cells=planted.cells, metadata={"title": planted.texts[0], "authors": [{"name": planted.texts[0]}]})
    node.metadata["kernelspec"] = {"name": "python3", "display_name": planted.texts[0]}
    NotebookClient(node, kernel_name="python3", resources={"metadata": {"path": str(folder)}}).execute()
    nbformat.write(node, path)
    taken = mlp.snapshot(path, weak=True)
    honest = stored.load(current(), Ref.parse(taken.ref))
    forged = archives.export(_forged(honest, planted.forged), folder / "forged.mlp")
    other = replace(_forged(honest, planted.forged[::-1]), pins={f"table:{text}": text for text in planted.forged})
    pinned = archives.export(other, folder / "pinned.mlp")
    found = mlp.verify(str(forged))
    assert found.report is not None
    yield "report", found.report.read_text("utf-8")
    run = SimpleNamespace(facts={"notebook": str(path)})
    yield "executed notebook", listings._executed(Ref("pipeline", "x"), run).decode()  # type: ignore[arg-type]
    for what, thing in {
        "verification": found,
        "snapshot": snapshots._snapshot(current(), _forged(honest, planted.forged)),
        "pipeline": mlp.to_pipeline(path),
        "graph": mlp.graph(taken.ref),
        "difference": mlp.diff(str(forged), str(pinned)),
        "status": mlp.status(),
    }.items():
        yield f"card of the {what}", as_html(thing.card())


def _forged(honest: Any, texts: list[str]) -> Any:
    """What no notebook of ours says, and a file from elsewhere may."""
    told = {**honest.environment, "packages": {text: text for text in texts}, "python": texts[0], "machine": texts[1], "folder": texts[2]}
    reasons = {"state": texts[3], "reasons": texts, "cells": honest.validity["cells"]}
    return replace(honest, name="".join(texts), environment=told, parameters={text: text for text in texts}, validity=reasons)


@dataclass
class Browser:
    """A Chromium that notes which payloads execute, and what pages ask for."""

    context: Any
    folder: Path
    executed: set[int] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.context.expose_binding("x", lambda _source, number=0: self.executed.add(number))

    def open(self, page: str, policy: str = "") -> tuple[set[int], list[str], str]:
        """Open a page from its file, or under the policy of the sidebar's server; return what executed, what was asked for, its text."""
        self.executed.clear()
        asked: list[str] = []
        tab = self.context.new_page()
        (self.folder / "page.html").write_text(page, "utf-8")
        url = (self.folder / "page.html").as_uri()
        if policy:
            url = "http://sidebar.invalid/report"
            headers = {"Content-Security-Policy": policy, "Content-Type": "text/html; charset=utf-8"}
            self.context.route("http://sidebar.invalid/report", lambda route: route.fulfill(body=page, headers=headers))
        tab.on("request", lambda request: asked.append(request.url) if request.url != url and not request.url.startswith("data:") else None)
        tab.on("requestfailed", lambda request: asked.remove(request.url) if _is_blocked(request, asked) else None)
        tab.goto(url)
        if not policy:  # in the sandbox, scripts are off for us too
            tab.evaluate(CLICK)
        tab.wait_for_timeout(100)
        text = "" if policy else str(tab.evaluate("document.body.innerText"))
        tab.close()
        return set(self.executed), asked, text


def _is_blocked(request: Any, asked: list[str]) -> bool:
    return request.url in asked and "csp" in str(request.failure).lower()


def without_policy(page: str) -> str:
    """The page as if it had only its escaping."""
    bare, count = re.subn(r"<meta http-equiv=\"Content-Security-Policy\"[^>]*>", "", page)
    assert count == 1
    return bare


def unescaped(page: str) -> str:
    """The page as if it had no escaping, each text closed so that it does not swallow the next."""
    ends = "".join(f"</{tag}>" for tag in "script style title noscript iframe object video svg math form details body".split())
    return re.sub(
        r"(?s)(<(?:td|th|h1|p)[^>]*>)(.*?)(</(?:td|th|h1|p)>)", lambda one: one[1] + html.unescape(one[2]) + "-->" + ends + one[3], page
    )


def judge(made: Mapping[str, str], browser: Browser) -> dict[str, tuple[int, int, int]]:
    """Open all pages; return for each how many payloads executed, how much was asked for, and how many are there as text."""
    from jupyter_mlp.frontends.handlers import _REPORT_POLICY

    report = made["report"]
    opened = {"report": report, "report, escaping alone": without_policy(report)}
    opened["report, policy alone"] = unescaped(report)
    opened["report, neither"] = without_policy(opened["report, policy alone"])
    opened |= {name: page for name, page in made.items() if name not in opened}
    seen: dict[str, tuple[int, int, int]] = {}
    for name, page in opened.items():
        executed, asked, text = browser.open(page, _REPORT_POLICY if name == "executed notebook" else "")
        seen[name] = len(executed), len(asked), len(set(re.findall(r"\bx\((\d+)\)", text)))
    return seen


def wrong(seen: Mapping[str, tuple[int, int, int]], count: int) -> list[str]:
    """What of it is not as it must be."""
    found = [f"{name}: {executed} executed, {asked} asked for" for name, (executed, asked, _) in seen.items() if executed or asked]
    found = [one for one in found if not one.startswith("report, neither")]
    if seen["report"][2] < count / 4:
        found.append(f"only {seen['report'][2]} payloads are in the report: the others were not tried there")
    if seen["report, neither"][0] < count / 8:
        found.append(f"without any protection only {seen['report, neither'][0]} execute: the browser looks away")
    return found


def main() -> int:
    """Plant, verify, open; 1 when one payload executed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--payloads", type=int, default=200)
    count = parser.parse_args().payloads
    chromium = shutil.which("chromium")
    if chromium is None:
        print("chromium is not installed: apt-get install chromium", file=sys.stderr)
        return 2
    from playwright.sync_api import sync_playwright

    with tempfile.TemporaryDirectory() as folder:
        os.environ["MLP_WORKSPACE"] = str(Path(folder, "workspace"))
        made = dict(pages(Path(folder), plant(count)))
        with sync_playwright() as playwright:
            launched = playwright.chromium.launch(executable_path=chromium, headless=True, args=FLAGS)
            seen = judge(made, Browser(launched.new_context(), Path(folder)))
            launched.close()
    print(f"{count} payloads in {len(SINKS)} kinds of places, {len(FORMS)} more in what a forged file says")
    for name, (executed, asked, there) in seen.items():
        print(f"  {name:<26} {executed:>4} executed, {asked:>4} asked for, {there:>4} there as text")
    failed = wrong(seen, count)
    print("\n".join(failed) or "none executed where a user opens it")
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main())
