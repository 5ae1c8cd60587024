"""The server extension: the verbs and the records over HTTP, for the sidebar, behind Jupyter's own doors.

    GET  jupyter-mlp/list/KIND?limit=&cursor=      a page of rows, newest first
    GET  jupyter-mlp/search?text=&kind=            what is found by these words
    GET  jupyter-mlp/thing?ref=                    one thing in detail
    GET  jupyter-mlp/lineage?ref=                  what it used, what was made from it
    GET  jupyter-mlp/traffic?name=                 what an endpoint answered in the last minutes
    GET  jupyter-mlp/clusters                      where training can run, and what is free there
    GET  jupyter-mlp/difference?before=&after=     what is different between two snapshots
    GET  jupyter-mlp/log?ref=                      the end of a run's log
    GET  jupyter-mlp/report?ref=                   the page of a report or of an executed notebook, alone in its sandbox
    GET  jupyter-mlp/schedule?session=             the form that schedules the notebook of a session
    POST jupyter-mlp/schedule {session, check, fields}   what is wrong in it and when it is due (check), or the schedule itself
    GET  jupyter-mlp/starters                      the notebooks to begin with
    GET  jupyter-mlp/starter?name=                 one of them
    POST jupyter-mlp/verb/VERB {arguments}         the verb itself, and what it returns
    WS   jupyter-mlp/changes                       what changes, as it changes

Every door has the server's authentication, authorizer, Host, Origin and XSRF checks from one base class. No route takes a
file's path: the notebook to schedule is the one of a session, which the server itself knows.
"""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Any

from jupyter_server.auth.decorator import authorized, ws_authenticated
from jupyter_server.base.handlers import JupyterHandler
from jupyter_server.base.websocket import WebSocketMixin
from jupyter_server.utils import ensure_async, url_path_join
from tornado import web
from tornado.websocket import WebSocketClosedError, WebSocketHandler

from jupyter_mlp.core.errors import NotFoundError
from jupyter_mlp.frontends import listings, remote, schedule_form, schedule_rows, starters
from jupyter_mlp.frontends.changes import Watch
from jupyter_mlp.frontends.doors import RESOURCE, Door
from jupyter_mlp.notebook import document
from jupyter_mlp.store.workspace import current

PREFIX = "jupyter-mlp"
_REPORT_POLICY = "sandbox; default-src 'none'; img-src data:; style-src 'unsafe-inline'; frame-ancestors 'self'"


class List(Door):
    """A page of one kind."""

    @web.authenticated
    @authorized
    async def get(self, kind: str) -> None:
        """Send the page after `cursor`."""
        limit, cursor = self.number("limit", listings.PER_PAGE, listings.MOST), self.text("cursor", "")
        pages = schedule_rows.page if kind == schedule_rows.KIND else partial(listings.page, kind=kind)
        await self.answer(lambda: pages(current(), limit=limit, cursor=cursor))


class Search(Door):
    """What some words find."""

    @web.authenticated
    @authorized
    async def get(self) -> None:
        """Send what is found, of one kind or of all."""
        text, kind = self.text("text", ""), self.text("kind", "")
        limit = self.number("limit", listings.PER_KIND, listings.MOST)
        kinds = {"kinds": [kind]} if kind else {}
        await self.answer(lambda: listings.search(current(), text, limit=limit, **kinds))


class Thing(Door):
    """One thing."""

    @web.authenticated
    @authorized
    async def get(self) -> None:
        """Send its details."""
        ref = self.ref()
        await self.answer(lambda: listings.details(current(), ref))


class Lineage(Door):
    """What a thing used, and what was made from it."""

    @web.authenticated
    @authorized
    async def get(self) -> None:
        """Send its neighbours."""
        ref = self.ref()
        await self.answer(lambda: listings.lineage(current(), ref))


class Traffic(Door):
    """What an endpoint answered lately."""

    @web.authenticated
    @authorized
    async def get(self) -> None:
        """Send rate, latency and errors of the last minutes."""
        name = self.text("name")
        await self.answer(lambda: remote.traffic(current(), name))


class Clusters(Door):
    """Where training can run."""

    @web.authenticated
    @authorized
    async def get(self) -> None:
        """Send what is free there now."""
        from jupyter_mlp.machines import clusters

        await self.answer(lambda: clusters().to_dict())


class Difference(Door):
    """What is different between two snapshots."""

    @web.authenticated
    @authorized
    async def get(self) -> None:
        """Send the changes."""
        before, after = self.ref("before"), self.ref("after")
        await self.answer(lambda: remote.difference(before, after))


class Log(Door):
    """The end of a run's log."""

    @web.authenticated
    @authorized
    async def get(self) -> None:
        """Send it as text."""
        ref = self.ref()
        await self.answer(lambda: {"ref": str(ref), "log": remote.end_of_log(current(), ref)})


class Report(Door):
    """The page of a report. It is somebody's HTML: it runs no script, and shows nothing that it does not bring along."""

    @property
    def content_security_policy(self) -> str:
        """Alone in its sandbox."""
        return _REPORT_POLICY

    @web.authenticated
    @authorized
    async def get(self) -> None:
        """Send the page."""
        ref = self.ref()
        page = await asyncio.to_thread(lambda: listings.report_of(current(), ref))
        self.finish(page, set_content_type="text/html; charset=utf-8")


class Schedule(Door):
    """The form that schedules a notebook."""

    @web.authenticated
    @authorized
    async def get(self) -> None:
        """Send its fields, filled in."""
        path = await self._notebook(self.text("session"))
        await self.answer(lambda: schedule_form.form(current(), document.read(path)))

    @web.authenticated
    @authorized("execute")
    async def post(self) -> None:
        """Say what is wrong in the form, or schedule the notebook."""
        given = remote.arguments(self.request.body)
        path = await self._notebook(str(given.pop("session", "")))
        do = schedule_form.check if given.pop("check", False) else schedule_form.make
        await self.answer(lambda: do(current(), document.read(path), given))

    async def _notebook(self, session: str) -> str:
        """The file of a session's notebook; who holds a session was let in to it by the server."""
        try:
            model = await ensure_async(self.session_manager.get_session(session_id=session))
            # Only the server's own manager says where a file is; it refuses what lies outside its folder.
            path = str(self.contents_manager._get_os_path(model["path"]))
        except (web.HTTPError, AttributeError):
            path = ""
        if not path.endswith(".ipynb"):
            raise NotFoundError("There is no notebook with this session.", "Save the notebook, start its kernel, and try again.")
        return path


class Starters(Door):
    """The notebooks to begin with."""

    @web.authenticated
    @authorized
    async def get(self) -> None:
        """Send their names and titles."""
        await self.answer(starters.starters)


class Starter(Door):
    """One of them."""

    @web.authenticated
    @authorized
    async def get(self) -> None:
        """Send the notebook."""
        name = self.text("name")
        await self.answer(lambda: starters.starter(name))


class VerbDoor(Door):
    """The verbs."""

    @web.authenticated
    @authorized("execute")
    async def post(self, verb: str) -> None:
        """Call the verb with the arguments in the body and send what it returns."""
        given = remote.arguments(self.request.body)
        await self.answer(lambda: remote.call(verb, given))


class Changes(WebSocketMixin, WebSocketHandler, JupyterHandler):
    """What changes, as it changes."""

    auth_resource = RESOURCE

    def initialize(self, watch: Watch) -> None:
        """Take the server's one watcher."""
        self._watch = watch

    async def prepare(self) -> None:
        """Refuse who is not known before anything is upgraded; a socket has no login page to go to."""
        await JupyterHandler.prepare(self, _redirect_to_login=False)

    @ws_authenticated
    @authorized("read")
    async def get(self, *args: Any, **kwargs: Any) -> None:
        """Open the socket."""
        await super().get(*args, **kwargs)

    def open(self, *args: Any, **kwargs: Any) -> None:
        """Begin to tell."""
        super().open(*args, **kwargs)
        self._watch.add(self._tell)

    def on_message(self, message: str | bytes) -> None:
        """Nobody has anything to say here."""

    def on_close(self) -> None:
        """End."""
        super().on_close()
        self._watch.remove(self._tell)

    def get_compression_options(self) -> dict[str, Any] | None:
        """Messages are short."""
        return None

    def _tell(self, text: str) -> None:
        try:
            self.write_message(text)
        except WebSocketClosedError:
            self._watch.remove(self._tell)


def routes(base_url: str) -> list[tuple[Any, ...]]:
    """Return the routes below the server's base URL."""

    def below(*parts: str) -> str:
        return url_path_join(base_url, PREFIX, *parts)

    return [
        (below("list", r"([a-z]+)"), List),
        (below("search"), Search),
        (below("thing"), Thing),
        (below("lineage"), Lineage),
        (below("traffic"), Traffic),
        (below("clusters"), Clusters),
        (below("difference"), Difference),
        (below("log"), Log),
        (below("report"), Report),
        (below("schedule"), Schedule),
        (below("starters"), Starters),
        (below("starter"), Starter),
        (below("verb", r"([a-z]+)"), VerbDoor),
        (below("changes"), Changes, {"watch": Watch()}),
    ]


def load(server: Any) -> None:
    """Add the routes to a running Jupyter server."""
    server.web_app.add_handlers(".*$", routes(server.web_app.settings["base_url"]))
