"""The address that an endpoint listens on: as told, else as before, else loopback; with real sockets, without its processes."""

from __future__ import annotations

from pathlib import Path

import pytest

from jupyter_mlp.core.clusters import LOCAL
from jupyter_mlp.core.errors import InvalidInputError
from jupyter_mlp.serving import listening
from jupyter_mlp.serving.control import ThisMachine
from jupyter_mlp.store.deployments import EndpointFolder
from jupyter_mlp.store.processes import this_process


def brought_up(folder: EndpointFolder, listen: str | None) -> str:
    """Settle on an address, listen as the host does, and return where that is."""
    settled = ThisMachine(LOCAL).settle(folder.path, None, None, listen)
    folder.want({"generation": 1, **settled})
    with listening.opened(folder)[0] as one:
        found, port = one.getsockname()[:2]
    folder.started(this_process(), port)
    return str(found)


@pytest.mark.parametrize(
    ("listen", "address"),
    [("127.0.0.2", "http://127.0.0.2"), ("0.0.0.0", "http://127.0.0.1"), ("127.0.0.1", "http://127.0.0.1"), ("::1", "http://[::1]")],
)
def test_a_new_endpoint_listens_where_it_is_told_and_is_asked_there(tmp_path: Path, listen: str, address: str) -> None:
    folder = EndpointFolder(tmp_path / "delays")
    assert brought_up(folder, listen) == listen and folder.address == f"{address}:{folder.port}"


def test_it_stays_where_it_is_until_it_is_stopped(tmp_path: Path) -> None:
    folder = EndpointFolder(tmp_path / "delays")
    assert brought_up(folder, None) == "127.0.0.1"
    with pytest.raises(InvalidInputError, match=r"already listens on 127\.0\.0\.1") as refused:
        ThisMachine(LOCAL).settle(folder.path, None, None, "0.0.0.0")
    assert "stop it first" in refused.value.hint
    folder.want({**folder.wanted(), "stopped": True})
    assert brought_up(folder, "127.0.0.2") == "127.0.0.2"
    folder.want({**folder.wanted(), "stopped": True})
    assert brought_up(folder, None) == "127.0.0.2"


@pytest.mark.parametrize("wrong", ["192.0.2.1", "example.org", "", "127.0.0.1:80"])
def test_what_is_no_address_of_this_machine_is_refused(tmp_path: Path, wrong: str) -> None:
    with pytest.raises(InvalidInputError, match="is no address of this machine") as refused:
        ThisMachine(LOCAL).settle(tmp_path / "delays", None, None, wrong)
    assert "0.0.0.0" in refused.value.hint
