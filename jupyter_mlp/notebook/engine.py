"""papermill's engine `mlp`: papermill's own semantics and metadata, a journal instead of a rewrite of the file after each cell.

    papermill NOTEBOOK.ipynb OUTPUT.ipynb --engine mlp

papermill writes the whole notebook twice a cell, which grows with the square of its length. Here every cell is one line of a
journal; the notebook itself is written now and then (it can be looked at while it runs) and whole at the end. With a folder to
work in, known cells are not run again, and what is independent runs at once in kernels of its own.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from nbclient.exceptions import CellExecutionError
from nbclient.util import run_sync
from papermill.clientwrap import PapermillNotebookClient
from papermill.engines import NBClientEngine
from papermill.utils import merge_kwargs, remove_args

from jupyter_mlp.notebook import journal, known, state, steps
from jupyter_mlp.notebook.document import Document
from jupyter_mlp.notebook.known import Known, Work
from jupyter_mlp.notebook.steps import Cell, Chain

_WRITING_SHARE = 0.02  # so much of the time may go into writing the notebook while it runs
_LEAST_S = 0.5
_PATIENCE_S = 0.3  # about half of what a kernel takes to start

Say = Callable[..., None]


class CannotGoOnError(Exception):
    """A kernel could not be given what earlier cells left."""


class JournalEngine(NBClientEngine):
    """The engine.

    `work`: where its journal is and what is known already; without, the journal is beside the output. `started`: the manager of a
    kernel that nobody uses yet.
    """

    @classmethod
    def execute_managed_notebook(  # noqa: D102 - papermill's own
        cls,
        nb_man: Any,
        kernel_name: str,
        work: Work | None = None,
        say: Say | None = None,
        started: Any = None,
        start_timeout: int = 60,
        execution_timeout: float | None = None,
        **kwargs: Any,
    ) -> None:
        wanted = merge_kwargs(
            remove_args(["kernel_name", "nb_man", "stderr_file", "stdout_file", "log_output", "nb", "autosave_cell_every"], **kwargs),
            timeout=execution_timeout or kwargs.get("timeout"),
            startup_timeout=start_timeout,
            kernel_name=kernel_name,
        )
        with _written_now_and_then(nb_man) as save:
            _Run(nb_man, wanted, work, say, save, started).run()


class _Client(PapermillNotebookClient):
    """Joins what a stream says in one go, as front ends do: where a kernel's flushes cut it is chance, and no part of the result."""

    def output(self, outs: list[Any], msg: dict[str, Any], display_id: str | None, cell_index: int) -> Any:
        found = super().output(outs, msg, display_id, cell_index)
        if len(outs) > 1 and outs[-1] is found and found.output_type == "stream":
            before = outs[-2]
            if before.output_type == "stream" and before.name == found.name:
                before.text += outs.pop().text
        return found


class _Ahead:
    """Sends a kernel the next cell together with the one it is asked to run: between two cells it waits for nobody.

    A cell behind one that failed is not run: ipykernel drops what it has received, and our keeper refuses what comes later.
    """

    def __init__(self, client: Any) -> None:
        self._send = client.kc.execute
        self._sent = ""
        self.following: Cell | None = None

    def request(self, code: str, **options: Any) -> str:
        """Take the place of the kernel client's `execute`; return the id of the message."""
        sent = self._sent or self._send(code, **options)
        following, self.following, self._sent = self.following, None, ""
        if following is not None:
            self._sent = self._send(following.source, store_history=True, stop_on_error=not following.may_fail)
        return str(sent)


class _Run:
    """One run of a notebook: its kernels, its journal, and the notebook that it fills."""

    def __init__(
        self, nb_man: Any, wanted: Mapping[str, Any], work: Work | None, say: Say | None, save: Callable[[], None], started: Any
    ) -> None:
        self.started = started
        self.nb_man, self.wanted, self.work, self.say, self.save = nb_man, wanted, work, say, save
        self.failed = False
        self.told = 0
        self.document = Document(nb_man.nb, work.notebook if work else None)
        self.chains: list[Chain] = []
        self.order: list[Cell] = []
        self.known = work.known if work else Known({})
        path = work.folder / journal.NAME if work else Path(f"{nb_man.output_path or 'notebook'}.journal").absolute()
        self.beside = None if work else path
        self.journal = journal.Journal(path)
        self.kernels = 0
        self.at_once = False  # where chains run beside one another, one that fails stops the others before their next cell

    def _plan(self) -> None:
        cells = steps.cells_of(self.document)
        if self.work is None:
            self.chains = [Chain(tuple(cells), (), tuple(str(cell.index) for cell in cells))]
        else:
            chains = steps.chains_of(cells, self.work.kernels)
            self.chains = steps.keyed(chains, self.document, self.work.run, self.work.cut, self.work.around)
        self.order = [cell for chain in self.chains for cell in chain.cells]

    def run(self) -> None:
        """Run what is not known, in the kernels that it takes."""
        try:
            run_sync(self._chains)()
        finally:
            self.journal.close()
        if self.beside is not None and not self.failed:
            self.beside.unlink(missing_ok=True)  # the notebook is written whole

    async def _chains(self) -> None:
        async with contextlib.AsyncExitStack() as stack:
            if self.known.lines:
                self._plan()
                if self._take_everything():
                    return
                first = await self._kernel(stack)
            else:  # a kernel it will take: it starts while the notebook is read
                planned = asyncio.ensure_future(asyncio.to_thread(self._plan))
                stack.push_async_callback(asyncio.wait, [planned])
                first = await self._kernel(stack)
                await planned
            reused = [self.known.reused(chain) for chain in self.chains]
            head, middle, tail = _shape(self.chains)
            showing = asyncio.ensure_future(self._show())
            stack.callback(showing.cancel)
            await self._chain(first, self.chains[head], reused[head], [])
            if middle and not self.failed:
                await self._beside(stack, first, head, middle, reused)
            if tail is not None and not self.failed:
                await self._chain(
                    first, self.chains[tail], reused[tail] if _known_before(reused, self.chains, tail) else 0, self.chains[:tail]
                )
            first.client.set_widgets_metadata()

    def _take_everything(self) -> bool:
        """Where every cell is known, take them all; no kernel is needed then."""
        if any(self.known.reused(chain) != len(chain.cells) for chain in self.chains):
            return False
        for chain in self.chains:
            self._take(chain, len(chain.cells))
        return True

    async def _show(self) -> None:
        """Keep the notebook readable while a long cell runs."""
        while True:
            await asyncio.sleep(_LEAST_S)
            self.save()

    async def _beside(self, stack: Any, first: _Kernel, head: int, middle: Sequence[int], reused: Sequence[int]) -> None:
        """Run chains that have nothing to do with one another at once."""
        behind = [self.chains[head]]
        free = deque(middle)

        async def work(kernel: _Kernel) -> None:
            while not self.failed and free:
                at = free.popleft()
                await self._chain(kernel, self.chains[at], reused[at], behind)

        async def help_out() -> None:
            """Start another kernel where a chain waits longer than starting one takes; short cells are faster in one."""
            helpers: list[asyncio.Task[None]] = []
            while free and not self.failed and len(helpers) < most:
                waiting = len(free)
                await asyncio.sleep(_PATIENCE_S)
                if free and len(free) == waiting and not self.failed:
                    helpers.append(asyncio.ensure_future(work(await self._kernel(stack))))
            await asyncio.gather(*helpers)

        may_leave = not behind[0].cells or self._left(behind[0]) is not None
        most = self.work.kernels - 1 if self.work and may_leave else 0
        self.at_once = most > 0
        jobs = [asyncio.ensure_future(work(first)), asyncio.ensure_future(help_out())]
        try:
            await asyncio.gather(*jobs)
        finally:
            self.at_once = False
            for job in jobs:
                job.cancel()
            await asyncio.gather(*jobs, return_exceptions=True)

    async def _chain(self, kernel: _Kernel, chain: Chain, reused: int, behind: Sequence[Chain]) -> None:
        """Run a chain in a kernel, behind others; the first cells of it may be known."""
        self._take(chain, reused)
        if reused == len(chain.cells):
            return  # whoever needs what it left is given it then
        missing = [one for one in behind if one.cells and one not in kernel.has]
        again = [one for one in missing if self._left(one) is None]  # what cannot cross stays in one step: it runs here, too
        if missing and missing[0] in again and missing[0].after == ():
            again = list(missing)
        given = [one for one in missing if one not in again]
        left = [self._left(one) for one in given] + ([self.known.left(chain.keys[reused - 1])] if reused and not again else [])
        first = 0 if again else reused
        cells = [cell for one in again for cell in one.cells] + list(chain.cells[first:])
        keys = [key for one in again for key in one.keys] + list(chain.keys[first:])
        if self.work is not None and (given or not kernel.state.name or (reused and not again)):
            done = [cell for one in given for cell in one.cells] + list(chain.cells[:first])
            await kernel.prepare(self.order, [one for one in left if one is not None], done, cells[0].count)
        for cell, key, following in zip(cells, keys, [*cells[1:], None], strict=True):
            if self.failed:
                return
            kernel.ahead.following = following if kernel.state.name and not self.at_once else None
            await self._cell(kernel, cell, key)
        kernel.has += [*missing, chain]

    def _left(self, chain: Chain) -> tuple[Path, int] | None:
        return self.known.left(chain.keys[-1]) if chain.keys else None

    def _take(self, chain: Chain, count: int) -> None:
        """Put what is known of a chain's first cells into the notebook and the journal."""
        for cell, key in zip(chain.cells[:count], chain.keys[:count], strict=True):
            line = self.known.lines[key]
            known.put(self.nb_man.nb.cells[cell.index], line, cell.count)
            if not line.get("own"):
                self.journal.add({**line, "reused": True})

    async def _cell(self, kernel: _Kernel, cell: Cell, key: str) -> None:
        node = self.nb_man.nb.cells[cell.index]
        if self.say:
            self.told += 1
            self.say(step=min(self.told, len(self.order)), of=len(self.order), source=cell.source.strip().splitlines()[0][:60])
        self.nb_man.cell_start(node, cell.index)
        not_run = False
        try:
            await kernel.client.async_execute_cell(node, cell.index)
            known.number(node, cell.count)
            kernel.at += 1
        except CellExecutionError as error:
            self.failed = True
            if error.ename == "InputRejected" and error.evalue == state.OVER:
                not_run = True
                return
            self.nb_man.cell_exception(node, cell_index=cell.index, exception=error)
            return
        except BaseException:
            self.failed = True
            raise
        finally:
            self.nb_man.cell_complete(node, cell_index=cell.index)
            if not_run:  # the cell before it ended the notebook
                node.outputs, node.execution_count = [], None
                node.metadata.papermill["status"] = self.nb_man.PENDING
        line = {
            "key": key,
            "cell": cell.index,
            "count": cell.count,
            "outputs": node.outputs,
            "papermill": node.metadata.papermill,
            "execution": node.metadata.get("execution", {}),
            "state": str(kernel.state),
            "at": kernel.at,
        }
        self.journal.add(line)
        self.known.lines[key] = {**line, "own": True}

    async def _kernel(self, stack: contextlib.AsyncExitStack) -> _Kernel:
        self.kernels += 1
        client = _Client(self.nb_man, km=self.started, **self.wanted)
        client.owns_km, self.started = True, None  # it ends with the run, whoever started it
        client.reset_execution_trackers()
        await stack.enter_async_context(client.async_setup_kernel())
        if "language_info" not in self.nb_man.nb.metadata or self.kernels == 1:
            info = await client.async_wait_for_reply(client.kc.kernel_info())
            self.nb_man.nb.metadata["language_info"] = info["content"]["language_info"]
        return _Kernel(client, self.work, self.kernels)


class _Kernel:
    """A kernel of a run. `has`: the chains that ran in it or were given to it."""

    def __init__(self, client: Any, work: Work | None, number: int) -> None:
        self.client, self.work, self.number = client, work, number
        self.ahead = _Ahead(client)
        client.kc.execute = self.ahead.request
        self.has: list[Chain] = []
        self.state = Path()
        self.turn = self.at = 0

    async def prepare(self, cells: Sequence[Cell], behind: Sequence[tuple[Path, int]], done: Sequence[Cell], count: int) -> None:
        """Give the kernel what earlier cells left, and let it write down what the coming ones leave."""
        assert self.work is not None
        self.turn, self.at = self.turn + 1, 0
        folder = self.work.folder / "state"
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.state = folder / f"{self.work.attempt}-{self.number}-{self.turn}.jsonl"
        before = [*(cell for chain in self.has for cell in chain.cells), *done]
        asked = {
            "path": str(self.state),
            "cells": {cell.source: cell.told() for cell in cells},
            "defined": sorted({name for cell in before for name in cell.defines}),
            "count": count,
            "fresh": not self.has,
            "lock": str(self.work.folder / known.KERNELS_LOCK),
            "behind": [[str(path), at] for path, at in behind],
            "replay": [text for cell in done for text in cell.replay],
            "ran": [[cell.source, cell.python] for cell in done],
        }
        request = self.state.with_suffix(".request")
        request.write_text(json.dumps(asked), encoding="utf-8")
        code = f"__import__('jupyter_mlp.notebook.state', fromlist=['keep']).keep({str(request)!r})"
        reply = await self.client.async_wait_for_reply(self.client.kc.execute(code, silent=True, store_history=False))
        request.unlink()
        content = reply["content"] if reply else {"status": "error", "ename": "Timeout", "evalue": "the kernel did not answer"}
        if content["status"] != "ok":
            raise CannotGoOnError(f"The kernel could not go on behind the cells before: {content['ename']}: {content['evalue']}")


def _known_before(reused: Sequence[int], chains: Sequence[Chain], tail: int) -> bool:
    """Whether all chains before the tail are known: only then what it left itself is all that there is."""
    return all(count == len(chain.cells) for count, chain in zip(reused[:tail], chains[:tail], strict=True))


def _shape(chains: Sequence[Chain]) -> tuple[int, list[int], int | None]:
    """Which chain is first, which run beside one another, which comes last."""
    middle = [at for at, chain in enumerate(chains) if chain.after == (0,)]
    tail = next((at for at, chain in enumerate(chains) if len(chain.after) > 1), None)
    return 0, middle, tail


@contextlib.contextmanager
def _written_now_and_then(nb_man: Any) -> Iterator[Callable[[], None]]:
    """Let papermill's manager write the notebook only as often as it costs little, and whole: nobody reads half a file."""
    cost, last, news = 0.0, time.monotonic(), False

    def save() -> None:
        nonlocal cost, last, news
        now = time.monotonic()
        if not news or not nb_man.output_path or now - last < max(_LEAST_S, cost / _WRITING_SHARE):
            return
        news = False
        known.write(nb_man.nb, Path(nb_man.output_path))
        last = time.monotonic()
        cost = last - now

    def note(**_given: Any) -> None:
        nonlocal news
        news = True
        save()

    nb_man.save, nb_man.autosave_cell = note, note
    try:
        yield save
    except BaseException:
        del nb_man.save, nb_man.autosave_cell  # papermill writes once more, and then no more
        raise
