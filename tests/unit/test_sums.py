"""The counters of several processes: added up, never counted twice, and never less than what was shown."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import msgspec
from prometheus_client.parser import text_string_to_metric_families

from jupyter_mlp.serving.metrics import Metrics
from jupyter_mlp.serving.sums import Counted, Sums
from jupyter_mlp.store.deployments import EndpointFolder

_COUNTS = """
import sys
from pathlib import Path
from jupyter_mlp.serving.metrics import Metrics
from jupyter_mlp.serving.sums import Sums
from jupyter_mlp.store.deployments import EndpointFolder
mine = Metrics("delays", Sums(EndpointFolder(Path(sys.argv[1])), 1))
for number in range(int(sys.argv[2])):
    mine.add("m", 200, 0.002, rows=3)
mine.add("m", 422, 0.5)
mine.share()
print("counted", flush=True)
sys.stdin.read()
"""


def shown(one: Metrics) -> dict[str, float]:
    """What a scrape shows, without what a process takes."""
    families = text_string_to_metric_families(one.text(1, []).decode())
    return {f"{s.name} {s.labels.get('status') or s.labels.get('le', '')}": s.value for f in families for s in f.samples}


def counting(folder: Path, requests: int) -> subprocess.Popen[bytes]:
    """A process that has answered so many requests, and one wrong one."""
    found = subprocess.Popen([sys.executable, "-c", _COUNTS, str(folder), str(requests)], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert found.stdout is not None and found.stdout.readline() == b"counted\n"
    return found


def test_processes_add_up_also_those_that_were_killed(tmp_path: Path) -> None:
    folder = EndpointFolder(tmp_path / "delays")
    mine = Metrics("delays", Sums(folder, 0))
    mine.add("m", 200, 0.002, rows=2)
    assert shown(mine)["mlp_requests_total 200"] == 1
    other = counting(folder.path, 10)
    before = shown(mine)
    assert (before["mlp_requests_total 200"], before["mlp_requests_total 422"], before["mlp_request_errors_total "]) == (11, 1, 1)
    assert (before["mlp_rows_total "], before["mlp_request_duration_seconds_bucket 0.0025"]) == (32, 11)
    assert before["mlp_request_duration_seconds_count "] == 12
    other.kill()
    other.communicate()
    assert shown(mine)["mlp_requests_total 200"] == 11, "a dead process has answered what it has answered"
    for more in (5, 7):
        other = counting(folder.path, more)  # the next one adds up what the dead have counted
        assert len(list(folder.metrics.glob("[0-9]*.json"))) == 2
        other.kill()
        other.communicate()
    assert shown(mine)["mlp_requests_total 200"] == 23 and shown(mine)["mlp_requests_total 422"] == 3


def test_what_was_moved_counts_once_although_its_file_is_there(tmp_path: Path) -> None:
    folder = EndpointFolder(tmp_path / "delays")
    other = counting(folder.path, 10)
    other.kill()
    other.communicate()
    (left,) = folder.metrics.glob("[0-9]*.json")
    data = left.read_bytes()
    mine = Metrics("delays", Sums(folder, 0))
    assert not left.exists()
    left.write_bytes(data)  # as where the process that moved it was killed before it removed it
    assert shown(mine)["mlp_requests_total 200"] == 10
    assert shown(Metrics("delays", Sums(folder, 1)))["mlp_requests_total 200"] == 10
    assert msgspec.json.decode((folder.metrics / "ended.json").read_bytes(), type=Counted).moved == [left.name]


def test_what_each_process_takes_is_told_by_its_pid(tmp_path: Path) -> None:
    folder = EndpointFolder(tmp_path / "delays")
    mine = Metrics("delays", Sums(folder, 0))
    other = counting(folder.path, 1)
    text = mine.text(1, []).decode()
    assert text.count("process_resident_memory_bytes{pid=") == 2 and f'process_open_fds{{pid="{other.pid}"}}' in text
    other.kill()
    other.communicate()
    assert mine.text(1, []).decode().count("process_resident_memory_bytes{pid=") == 1
    assert "process_resident_memory_bytes 1" not in text and "pid" not in Metrics("delays").text(1, []).decode()
