"""Models that cannot be exported: their author's code runs in a warm process of its own, with torch, behind the same routing.

    serving process  --features float32-->  python -m jupyter_mlp.serving.source MODEL_FOLDER
                     <--outputs float32---

Frames on both pipes: a JSON line with the shape, then the bytes of the array. An error comes back as {"error": ...}.
The process is started with the model, loads the weights from safetensors (never a pickle), and is restarted once if it dies.
"""

from __future__ import annotations

import ast
import contextlib
import importlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np

from jupyter_mlp.core.errors import JobError, MLPError, StorageError
from jupyter_mlp.store import registry

_LONGEST_LINE = 10_000
_AGAIN = "Train the model again in this environment."


class SourceRunner:
    """Runs the network in a process of its own; one call at a time, the others queue."""

    quick = False

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock = threading.Lock()
        self._closed = False
        self._process = self._start()

    def __call__(self, features: np.ndarray) -> np.ndarray:
        """Return the raw outputs; a process that died is started again once."""
        with self._lock:
            try:
                return _exchange(self._process, features)
            except (OSError, EOFError, ValueError):
                if self._closed:
                    raise JobError("The model was closed.", "Ask again.") from None
                self._end()
                self._process = self._start()
                try:
                    return _exchange(self._process, features)
                except (OSError, EOFError, ValueError) as error:
                    raise JobError(
                        f"The model's own process died twice on these rows: {error}", "The endpoint's host.log has its words."
                    ) from error

    def close(self) -> None:
        """End the process."""
        self._closed = True
        self._end()

    def _end(self) -> None:
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            with contextlib.suppress(OSError):  # closing writes what was not sent, to nobody
                pipe.close()  # type: ignore[union-attr]

    def _start(self) -> subprocess.Popen[bytes]:
        argv = [sys.executable, "-m", "jupyter_mlp.serving.source", str(self._folder)]
        process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert process.stdout is not None
        said = json.loads(process.stdout.readline() or b'{"error": "it ended before it was ready"}')
        if "error" in said:
            process.kill()
            process.wait()
            raise StorageError(f"The model's code cannot be run: {said['error']}", said.get("hint") or _AGAIN)
        return process


def _exchange(process: subprocess.Popen[bytes], features: np.ndarray) -> np.ndarray:
    assert process.stdin is not None and process.stdout is not None
    _send(process.stdin, features)
    return _receive(process.stdout)


def _send(pipe: IO[bytes], values: np.ndarray) -> None:
    pipe.write(json.dumps({"shape": values.shape}).encode() + b"\n" + np.ascontiguousarray(values, np.float32).tobytes())
    pipe.flush()


def _receive(pipe: IO[bytes]) -> np.ndarray:
    line = pipe.readline(_LONGEST_LINE)
    if not line:
        raise EOFError("it ended")
    head = json.loads(line)
    if "error" in head:
        raise JobError(f"The model's code failed: {head['error']}", "The endpoint's host.log has the whole stack.")
    size = 4 * int(np.prod(head["shape"], dtype=np.int64))
    data = pipe.read(size)
    if len(data) < size:
        raise EOFError("it ended in the middle of an answer")
    return np.frombuffer(data, np.float32).reshape(head["shape"])


def main(folder: Path) -> None:
    """Answer frames on standard input until it closes."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what the model's code prints must not get between the frames
    import traceback

    try:
        forward = _load(folder)
    except Exception as error:  # noqa: BLE001 - any failure of the author's code is told to the parent
        traceback.print_exc()
        told = (
            {"error": error.message, "hint": error.hint} if isinstance(error, MLPError) else {"error": f"{type(error).__name__}: {error}"}
        )
        answers.write(json.dumps({name: text[:500] for name, text in told.items()}).encode() + b"\n")
        answers.flush()
        return
    answers.write(b'{"ready": true}\n')
    answers.flush()
    while True:
        try:
            features = _receive(sys.stdin.buffer)
        except EOFError:
            return
        try:
            _send(answers, forward(features))
        except Exception as error:  # noqa: BLE001 - see above
            traceback.print_exc()
            answers.write(json.dumps({"error": f"{type(error).__name__}: {error}"[:500]}).encode() + b"\n")
            answers.flush()


def _load(folder: Path) -> Any:
    """Return a function from features to raw outputs, from the model's captured code and its weights."""
    import torch
    from safetensors.torch import load_file

    card = json.loads((folder / "model.json").read_bytes())
    registry.check_source(folder, card)
    torch.set_num_threads(1)
    sys.path.insert(0, str(folder / "code"))
    sys.dont_write_bytecode = True  # a model folder never changes
    model = getattr(importlib.import_module(_module_with(folder / "code", card["name"])), card["name"])(**_arguments(card))
    model.load_state_dict(load_file(folder / registry.WEIGHTS))
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model.to(device).eval()

    def forward(features: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            found: np.ndarray = model(torch.from_numpy(features.copy()).to(device)).float().cpu().numpy()
            return found

    return forward


def _module_with(folder: Path, name: str) -> str:
    """Return the module of the captured code that defines the class `name`."""
    for path in sorted(folder.glob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        if any(isinstance(node, ast.ClassDef) and node.name == name for node in tree.body):
            return path.stem
    raise StorageError(f"No file in {folder} defines the class {name}.")


def _arguments(card: Mapping[str, Any]) -> dict[str, Any]:
    return dict(card.get("arguments") or card.get("settings") or {})


if __name__ == "__main__":
    main(Path(sys.argv[1]))
