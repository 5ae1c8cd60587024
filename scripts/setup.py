"""`make setup`: a virtual environment with exactly what constraints.txt names. Standard library only.

    python -m venv  ->  pip installs uv  ->  uv installs this repository, editable, with all extras

uv installs ten times as fast as pip, but does not read pip's configuration (index, find-links, certificates): what pip
is told on this machine is told to uv too. Where uv cannot be had or cannot serve, pip does the whole job.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))  # nothing is installed yet

from jupyter_mlp.core.pip_settings import for_uv, of_pip  # noqa: E402

CONSTRAINTS = ROOT / "constraints.txt"
WHAT = ".[all,dev]"


def main(folder: str) -> int:
    """Bring the virtual environment in `folder` up to date; return the exit status."""
    environment = ROOT / folder
    stamp = environment / ".set-up"
    wanted = _fingerprint(environment)
    if stamp.exists() and stamp.read_text() == wanted:
        return 0
    begun = time.perf_counter()
    print(
        f"Setting up {environment} with Python {sys.version.split()[0]}; the first time downloads 1 GB, with a CUDA build of torch 4 GB.",
        flush=True,
    )
    try:
        python = _fresh(environment, stamp)
        _install(python)
    except subprocess.CalledProcessError as error:
        print(
            f"The set-up failed: {' '.join(map(str, error.cmd[:6]))} ... ended with status {error.returncode}; its reason is above.",
            file=sys.stderr,
        )
        print("Mend it and type the same again: what was downloaded is kept.", file=sys.stderr)
        return 1
    # The repository itself is not compiled by either, and with PYTHONDONTWRITEBYTECODE would be again by every process.
    subprocess.run([python, "-m", "compileall", "-q", ROOT / "jupyter_mlp"], check=False)
    stamp.write_text(wanted)
    print(f"Set up in {time.perf_counter() - begun:.0f} s.", flush=True)
    return 0


def _fingerprint(environment: Path) -> str:
    """What the environment is made from: when this changes it is made again."""
    told = [str(environment), sys.executable, sys.version]
    read = [
        (ROOT / name).read_bytes() for name in ("pyproject.toml", "constraints.txt", "scripts/setup.py", "jupyter_mlp/core/pip_settings.py")
    ]
    return hashlib.sha256("\n".join(told).encode() + b"".join(read)).hexdigest()


def _fresh(environment: Path, stamp: Path) -> Path:
    """Make the virtual environment, or keep the one that this Python made in this place; return its Python."""
    python = environment / "bin" / "python"
    stamp.unlink(missing_ok=True)
    if environment.exists() and (_version(python) != sys.version or not _made_here(environment)):
        shutil.rmtree(environment)
    if not environment.exists():
        try:
            import ensurepip  # noqa: F401  # Debian keeps it in a package of its own
        except ImportError:
            print(f"{sys.executable} cannot make virtual environments.", file=sys.stderr)
            print("On Debian and Ubuntu: apt-get install python3-venv; elsewhere name another: make setup PYTHON=...", file=sys.stderr)
            raise SystemExit(1) from None
        _run(sys.executable, "-m", "venv", environment)
    return python


def _version(python: Path) -> str:
    try:
        found = subprocess.run([python, "-c", "import sys; print(sys.version)"], capture_output=True, text=True)
    except OSError:
        return ""
    return found.stdout.strip()


def _made_here(environment: Path) -> bool:
    # A folder that was moved keeps a Python that runs, but its scripts start with the old path.
    try:
        return str(environment) in (environment / "pyvenv.cfg").read_text()
    except OSError:
        return False


def _install(python: Path) -> None:
    pip = (python, "-m", "pip")
    try:
        _run(*pip, "install", "--quiet", "--disable-pip-version-check", "--constraint", CONSTRAINTS, "uv")
        # Bytecode now, whatever PYTHONDONTWRITEBYTECODE says: without it `import lightning` takes twice as long, every time.
        options = ("--compile-bytecode", "--constraints", CONSTRAINTS, "--build-constraints", CONSTRAINTS)
        _run(python, "-m", "uv", "pip", "install", "--python", python, *options, "--editable", WHAT, env=for_uv(of_pip(python)))
    except subprocess.CalledProcessError:
        print("uv could not be installed or could not install; pip does the same now, more slowly.", file=sys.stderr, flush=True)
        _run(*pip, "install", "--disable-pip-version-check", "--constraint", CONSTRAINTS, "--editable", WHAT)


def _run(*command: object, env: Mapping[str, str] | None = None) -> None:
    subprocess.run([str(word) for word in command], check=True, cwd=ROOT, env=env)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1] if len(sys.argv) > 1 else ".venv"))
