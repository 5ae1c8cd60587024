"""Endpoints on Ray Serve: one Serve application each, by the REST API of the cluster's dashboard; a notebook needs no Ray.

What Serve runs is our own application (serving/replica.py), which follows the endpoint's folder: that folder and the models
must be reachable at the same path on every node. Serve's API takes all applications at once, and drops those that it is not
told of, so the others are sent along as they are.

The port is that of Serve's proxies, for all endpoints of the cluster, and each lies below /NAME there. Models run in the
Python that the cluster was started with.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from jupyter_mlp.backends import starting
from jupyter_mlp.backends.looking import Looks
from jupyter_mlp.backends.ray_dashboard import Dashboard
from jupyter_mlp.core.clusters import Cluster, Sight
from jupyter_mlp.core.errors import ConflictError, InvalidInputError, JobError, UnreachableError
from jupyter_mlp.store.deployments import EndpointFolder, answers

_API = "/api/serve/applications/"
_CODE = "jupyter_mlp.serving.replica:application"
_DEPLOYMENT = "endpoint"  # of the application, in Serve's sense
_READY_S = 180.0  # Serve itself, a process a replica, and a model that runs its author's code imports torch first
_GONE_S = 60.0
_SENT_S = 90.0  # the first question lets the dashboard load Serve, the first application waits until that has started
_LOOK_S = 0.5
_SERVES = ("proxy_location", "http_options", "grpc_options", "target_capacity")
_GLANCE_S = 3.0
_ONGOING = 1000  # requests of a replica at once: our application says itself when more is waiting than it can answer soon
_CLASS = re.compile(r"^[\w.]+(Error|Exception): ")  # of an exception, before its words
_looks = Looks()


class _Dropped(JobError):
    """The application is not there any more."""


class RayServe:
    """The Serve applications of the Ray cluster whose dashboard is at an address."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._dashboard = Dashboard(cluster)

    def settle(self, folder: Path, port: int | None, replicas: int | None, listen: str | None = None) -> Mapping[str, Any]:
        """Take a number of replicas, as before where none is given; refuse a port and a name that somebody else's application has."""
        for option, what, given in (("port", "port", port), ("listen", "address", listen)):
            if given is not None:
                said = f"On the cluster {self._cluster.name} the {what} is that of Ray Serve's proxies."
                raise InvalidInputError(said, f"Leave --{option} out.")
        self._dashboard.refuse_open()
        self._dashboard.asked("GET", "/api/version")  # who is not there is found out before the patience for Serve begins
        endpoint = EndpointFolder(folder)
        told = self._told()
        self._refuse_taken(endpoint, told["applications"])
        if told.get("http_options"):
            self._address_of(endpoint.name, told)  # or a refusal
        return {"where": self._cluster.to_dict(), "replicas": replicas or int(endpoint.wanted().get("replicas") or 1)}

    def runs(self, folder: Path) -> bool:
        """Whether Serve has the endpoint's application and has not given it up."""
        found = self._mine(EndpointFolder(folder))
        return found is not None and found["status"] not in ("DELETING", "DEPLOY_FAILED")

    def bring(self, folder: Path, fresh: bool) -> str | None:
        """Send the application where `fresh` or where its size changes; wait until every replica has followed."""
        endpoint = EndpointFolder(folder)
        if fresh:
            return self._started(endpoint)
        error = self._followed(endpoint)
        return error or self._resized(endpoint)

    def state(self, folder: Path) -> str:
        """Return what the dashboard and the endpoint's own health say."""
        return _looks.at((self._dashboard.address, folder), lambda: self._seen(EndpointFolder(folder))).state

    def stop(self, folder: Path) -> None:
        """Take the application out; the others stay."""
        endpoint = EndpointFolder(folder)
        deadline = time.monotonic() + _GONE_S
        while (found := self._mine(endpoint)) is not None:
            if not _is_ending(found):  # or somebody who had read the list before us has written it again
                self._put(lambda others: others, without=endpoint.name)
            if time.monotonic() > deadline:
                raise JobError(f"Ray Serve has not ended {endpoint.name} after {_GONE_S:.0f} s.", self.log(folder))
            time.sleep(_LOOK_S / 2)
        endpoint.forget_replicas()

    def log(self, folder: Path) -> str:
        """Serve keeps it."""
        return f"Its log: {self._dashboard.address}/#/serve/applications/{folder.name}"

    # -- what is there

    def _told(self, timeout_s: float = _SENT_S) -> dict[str, Any]:
        found: dict[str, Any] = self._dashboard.asked("GET", _API, timeout_s=timeout_s)
        return found

    def _mine(self, endpoint: EndpointFolder, timeout_s: float = _SENT_S) -> dict[str, Any] | None:
        found = self._told(timeout_s)["applications"].get(endpoint.name)
        return found if found is not None and (_is_ending(found) or _folder_of(found) == str(endpoint.path)) else None

    def _seen(self, endpoint: EndpointFolder) -> Sight:
        found = self._mine(endpoint, _GLANCE_S)
        if found is None or found["status"] in ("DELETING", "DEPLOY_FAILED"):
            return Sight("down", found["message"] if found else "Ray Serve does not have it.")
        return Sight("ready" if answers(endpoint.address) else "starting", found["message"])

    def _refuse_taken(self, endpoint: EndpointFolder, applications: Mapping[str, Any]) -> None:
        """Serve would let whoever comes last have a name or a path."""
        for name, one in applications.items():
            theirs = not _is_ending(one) and _folder_of(one) != str(endpoint.path)
            if theirs and (name == endpoint.name or one.get("route_prefix") == f"/{endpoint.name}"):
                raise ConflictError(
                    f"On the cluster {self._cluster.name} the application {name} of somebody else is at /{endpoint.name} already.",
                    f"Choose another name: --to {endpoint.name}_2",
                )

    # -- what should be there

    def _send(self, endpoint: EndpointFolder, replicas: int, start: int) -> None:
        wanted = endpoint.wanted()
        mine = {
            "name": endpoint.name,
            "route_prefix": f"/{endpoint.name}",
            "import_path": _CODE,
            # The start is there for Serve: what it has given up once it tries again only where something is new.
            "args": {"folder": str(endpoint.path), "models": wanted["models"], "start": start},
            "logging_config": {"enable_access_log": False},  # the endpoint has its own log of requests
            "runtime_env": {"env_vars": starting.environment(self._cluster)},
            "deployments": [_sized(replicas, float(self._cluster.cpus_per_gpu))],
        }
        self._put(lambda others: [*others, mine], without=endpoint.name)

    def _put(self, changed: Callable[[list[dict[str, Any]]], list[dict[str, Any]]], without: str) -> None:
        told = self._told()
        self._dashboard.refuse_open()
        others = [one["deployed_app_config"] for name, one in told["applications"].items() if name != without and _is_declared(one)]
        body = {**self._kept(told), "applications": changed(others)}
        self._dashboard.asked("PUT", _API, body, timeout_s=_SENT_S)

    def _kept(self, told: Mapping[str, Any]) -> dict[str, Any]:
        """How Serve listens: as it does; where it is not there yet, on the interface that its dashboard is asked at."""
        if not told.get("http_options"):
            host = "127.0.0.1" if self._dashboard.is_here else "0.0.0.0"
            return {"proxy_location": "EveryNode", "http_options": {"host": host}}
        return {key: told[key] for key in _SERVES if told.get(key) is not None}

    # -- waiting for it

    def _started(self, endpoint: EndpointFolder) -> str | None:
        self.stop(endpoint.path)  # what is left of it
        wanted = endpoint.wanted()
        for again in (True, True, False):
            self._send(endpoint, wanted["replicas"], int(wanted["generation"]))
            try:
                return self._followed(endpoint, wanted["replicas"])
            except _Dropped:  # by somebody who had read Serve's list before us and wrote it after us
                if not again:
                    raise
        raise AssertionError("unreachable")

    def _followed(self, endpoint: EndpointFolder, replicas: int = 1) -> str | None:
        """Wait until all replicas that run, and so many, serve what is wanted; return what one says is wrong with it, or None."""
        generation = int(endpoint.wanted()["generation"])
        deadline = time.monotonic() + _READY_S
        found: dict[str, Any] | None = None
        while time.monotonic() < deadline:
            words = {name: one for name, one in endpoint.replicas().items() if int(one.get("generation", -1)) >= generation}
            if errors := [str(one["error"]) for one in words.values() if one.get("error")]:
                return errors[0]
            found = self._mine(endpoint)
            self._refuse_given_up(endpoint, found)
            running = _running(found)
            if len(running) >= replicas and running <= words.keys() and self._is_found(endpoint):
                endpoint.forget_replicas(but=_known(found))
                some = words[min(running)]
                endpoint.report({"generation": generation, "serving": some["serving"], "last_good": some["serving"], "error": None})
                return None
            time.sleep(_LOOK_S if not running else 0.05)
        of = f"{len(_running(found))} of {replicas} replicas run" if replicas > 1 else "its replicas have not followed"
        raise JobError(
            f"The endpoint {endpoint.name} is not ready after {_READY_S:.0f} s: {of}. {_said(found)}".strip(), self.log(endpoint.path)
        )

    def _refuse_given_up(self, endpoint: EndpointFolder, found: Mapping[str, Any] | None) -> None:
        if found is None or _is_ending(found):
            raise _Dropped(f"Somebody took the endpoint {endpoint.name} out of {self._cluster.name}.", self.log(endpoint.path))
        if found["status"] == "DEPLOY_FAILED":
            raise JobError(f"The endpoint {endpoint.name} did not come up on {self._cluster.name}: {_said(found)}", self.log(endpoint.path))

    def _resized(self, endpoint: EndpointFolder) -> str | None:
        """Give the application as many replicas as are wanted, and as many as before where those do not come up."""
        found, wanted = self._mine(endpoint), int(endpoint.wanted()["replicas"])
        before = _size(found)
        if found is None or before == wanted:
            return None
        start = found["deployed_app_config"]["args"]["start"]
        self._send(endpoint, wanted, start)
        try:
            return self._followed(endpoint, wanted)
        except BaseException:
            with suppress(UnreachableError):  # the first error is the one to show
                self._send(endpoint, before, start)
            raise

    def _is_found(self, endpoint: EndpointFolder) -> bool:
        """Whether a proxy passes requests on to it; written down where."""
        address = self._address_of(endpoint.name, self._told())
        if not answers(address):
            return False
        if endpoint.address != address:
            endpoint.found_at(address)
        return True

    def _address_of(self, name: str, told: Mapping[str, Any]) -> str:
        options = told.get("http_options") or {}
        if told.get("proxy_location") in (None, "Disabled") or options.get("ssl_keyfile"):
            raise JobError(
                f"Ray Serve on {self._cluster.name} has no proxy that speaks HTTP.",
                'Start Serve there with proxy_location "EveryNode" and without ssl_keyfile.',
            )
        return f"http://{urlsplit(self._dashboard.address).hostname}:{options.get('port', 8000)}/{name}"


def _sized(replicas: int, cpus: float) -> dict[str, Any]:
    return {
        "name": _DEPLOYMENT,
        "num_replicas": replicas,
        "max_ongoing_requests": _ONGOING,
        "ray_actor_options": {"num_cpus": cpus},
        "health_check_period_s": 2.0,
        "graceful_shutdown_wait_loop_s": 0.5,
        "graceful_shutdown_timeout_s": 10.0,
    }


def _is_declared(application: Mapping[str, Any]) -> bool:
    """Whether Serve would drop it if it were not told of it: what code has started on the cluster it leaves alone."""
    given = application.get("deployed_app_config")
    return bool(given) and application.get("source") != "imperative" and not _is_ending(application)


def _is_ending(application: Mapping[str, Any]) -> bool:
    """Whether it is being taken out; Serve does not say any more what it was."""
    return bool(application["status"] == "DELETING")


def _folder_of(application: Mapping[str, Any]) -> str:
    """The endpoint's folder, of one of our own applications."""
    given = application.get("deployed_app_config") or {}
    return str((given.get("args") or {}).get("folder", "")) if given.get("import_path") == _CODE else ""


def _size(application: Mapping[str, Any] | None) -> int:
    deployments = ((application or {}).get("deployed_app_config") or {}).get("deployments") or [{}]
    return int(deployments[0].get("num_replicas", 0))


def _known(application: Mapping[str, Any] | None) -> set[str]:
    """The names of the replicas that run or start."""
    deployment = ((application or {}).get("deployments") or {}).get(_DEPLOYMENT) or {}
    return {one["replica_id"] for one in deployment.get("replicas", [])}


def _running(application: Mapping[str, Any] | None) -> set[str]:
    deployment = ((application or {}).get("deployments") or {}).get(_DEPLOYMENT) or {}
    return {one["replica_id"] for one in deployment.get("replicas", []) if one["state"] == "RUNNING"}


def _said(application: Mapping[str, Any] | None) -> str:
    """What Serve says of an application that does not come up, of a stack the last line."""
    deployment = ((application or {}).get("deployments") or {}).get(_DEPLOYMENT) or {}
    text = str(deployment.get("message") or (application or {}).get("message") or "")
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return _CLASS.sub("", lines[-1])[:300] if lines else ""
