"""A real Slurm on this machine: munged, slurmctld and slurmd of Debian's slurm-wlm, on loopback, all ended afterwards.

One node with the GPUs of this machine; without any, 32 that are declared (`Gres=gpu:32` over the terminals /dev/tty1 to 32)
and schedule like real ones.
It needs root, because slurmd does.
"""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from jupyter_mlp.store import gpus as real

NEEDED = ("slurmctld", "slurmd", "munged")
_CONF = """
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ctld}
SlurmdPort={slurmd}
AuthType=auth/munge
CredType=cred/munge
AuthInfo=socket={folder}/munge.socket
CommunicationParameters=NoCtldInAddrAny,NoInAddrAny
SlurmUser=root
SlurmdUser=root
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SlurmdParameters=config_overrides
SchedulerParameters=sched_interval=1,batch_sched_delay=0
GresTypes=gpu
MpiDefault=none
SwitchType=switch/none
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
ReturnToService=2
SlurmdTimeout=10
KillWait=2
InactiveLimit=0
NodeName=node1 NodeHostname={host} NodeAddr=127.0.0.1 CPUs={gpus} Gres=gpu:{gpus} State=UNKNOWN
PartitionName=main Nodes=node1 Default=YES MaxTime=INFINITE State=UP
"""


def missing() -> list[str]:
    """What this machine lacks for it."""
    lacks = [name for name in NEEDED if _where(name) is None]
    return lacks or ([] if os.geteuid() == 0 else ["root"])


class Slurm:
    """The running servers; `conf` is what SLURM_CONF must name."""

    def __init__(self, folder: Path, gpus: int) -> None:
        self.folder, self.conf = folder, folder / "slurm.conf"
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        for name in ("state", "spool"):
            (folder / name).mkdir(mode=0o700)
        key = folder / "munge.key"
        key.write_bytes(secrets.token_bytes(128))
        key.chmod(0o600)
        told = {"host": socket.gethostname().split(".")[0], "folder": folder, "gpus": gpus, "ctld": _free_port(), "slurmd": _free_port()}
        self.conf.write_text(_CONF.format(**told))
        files = f"/dev/nvidia[0-{gpus - 1}]" if real.count() else f"/dev/tty[1-{gpus}]"
        (folder / "gres.conf").write_text(f"NodeName=node1 Name=gpu File={files}\n")
        (folder / "cgroup.conf").write_text("CgroupPlugin=cgroup/v1\nCgroupAutomount=no\n")

    def start(self, name: str) -> None:
        """Start one of the servers, in the foreground, as our child."""
        munge = [f"--{what}={self.folder}/munge.{end}" for what, end in _MUNGE.items()]
        commands = {
            "munged": ["--foreground", "--force", "--num-threads=2", *munge],
            "slurmctld": ["-D", "-f", str(self.conf)],
            "slurmd": ["-D", "-f", str(self.conf)],
        }
        with (self.folder / f"{name}.out").open("ab") as said:
            child = subprocess.Popen([str(_where(name)), *commands[name]], stdout=said, stderr=said, env=self.environment)
        self._running[name] = child

    def stop(self, name: str, how: signal.Signals = signal.SIGTERM) -> None:
        """End one of the servers."""
        child = self._running.pop(name, None)
        if child is not None:
            child.send_signal(how)
            try:
                child.wait(15)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()

    def stop_all(self) -> None:
        """End all of it, jobs first."""
        if "slurmd" in self._running:
            if "slurmctld" not in self._running:
                self.start("slurmctld")  # or nobody ends the jobs
                self.until(lambda: "PARTITION" in self.says("sinfo"), 20)
            subprocess.run(["scancel", "--user=root"], env=self.environment, capture_output=True, timeout=20)
            self.until(lambda: not self.says("squeue", "--noheader").strip(), 20)
        for name in reversed(NEEDED[2:] + NEEDED[:2]):
            self.stop(name)

    def says(self, *command: str) -> str:
        """What a command of Slurm says."""
        done = subprocess.run(command, env=self.environment, capture_output=True, text=True, timeout=30)
        return done.stdout + done.stderr

    @property
    def environment(self) -> dict[str, str]:
        """Of its servers and commands."""
        return {**os.environ, "SLURM_CONF": str(self.conf)}

    def until(self, true: object, limit_s: float) -> None:
        """Wait until something is true."""
        deadline = time.monotonic() + limit_s
        while not true():  # type: ignore[operator]
            assert time.monotonic() < deadline, "\n".join([self.says("scontrol", "show", "node"), *self._logs()])
            time.sleep(0.2)

    def _logs(self) -> list[str]:
        return [path.read_text(errors="replace")[-1500:] for path in sorted(self.folder.glob("*.log")) + sorted(self.folder.glob("*.out"))]


_MUNGE = {"socket": "socket", "key-file": "key", "pid-file": "pid", "log-file": "log", "seed-file": "seed"}


@contextmanager
def running(folder: Path, gpus: int = 32) -> Iterator[Slurm]:
    """A Slurm whose node is ready."""
    slurm = Slurm(folder, gpus)
    try:
        slurm.start("munged")
        slurm.until((folder / "munge.socket").exists, 10)
        slurm.start("slurmctld")
        slurm.start("slurmd")
        slurm.until(lambda: slurm.says("sinfo", "--noheader", "--format=%t").strip() == "idle", 30)
        yield slurm
    finally:
        slurm.stop_all()


def _where(name: str) -> str | None:
    return shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])
