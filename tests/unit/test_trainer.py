"""How a rank's Trainer is made: nothing that a machine has installed changes what it does."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from lightning.pytorch.loops.training_epoch_loop import _TrainingEpochLoop as TrainingEpochLoop

_MADE = """
import sys
from pathlib import Path
from jupyter_mlp.backends.lightning_checkpoints import AsyncCheckpoints
from jupyter_mlp.backends.lightning_trainer import make_trainer
from jupyter_mlp.core.parallelism import Choice
from jupyter_mlp.store.jobs import RunFolder
make_trainer({"max_epochs": 1, "tracker": "none"}, RunFolder(Path(sys.argv[1])), 1, 0, [], AsyncCheckpoints(print), Choice("auto"))
print("made")
"""


def test_mpi_is_not_started_where_it_is_installed(tmp_path: Path) -> None:
    """Open MPI ends a process that srun has started without it: on a GPU machine with mpi4py no training began."""
    (tmp_path / "mpi4py").mkdir()
    (tmp_path / "mpi4py" / "__init__.py").write_text("import os\nos._exit(1)\n")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path])}
    done = subprocess.run([sys.executable, "-c", _MADE, str(tmp_path)], capture_output=True, text=True, env=environment)
    assert done.stdout.endswith("made\n"), done.stderr


def test_no_step_waits_for_word_of_a_signal() -> None:
    """Lightning's broadcast before each step is left out; when Lightning has none any more, so can our line be."""
    assert hasattr(TrainingEpochLoop, "_broadcast_sigterm_tensor")
    code = _MADE.replace("make_trainer(", "trainer = make_trainer(").replace(
        'print("made")', "print(trainer.fit_loop.epoch_loop._broadcast_sigterm_tensor.__module__)"
    )
    done = subprocess.run([sys.executable, "-c", code, "."], capture_output=True, text=True)
    assert done.stdout.endswith("jupyter_mlp.backends.lightning_trainer\n"), done.stderr


def test_ranks_of_one_machine_share_memory_and_others_do_not(tmp_path: Path) -> None:
    code = _MADE.replace("make_trainer(", "trainer = make_trainer(").replace(", 1, 0, []", ", 2, 0, []").replace('"auto")', '"ddp")')
    code = code.replace('print("made")', "print(type(trainer.strategy).__name__)")
    for local, wanted in (("2", "SharedMemoryDDP"), ("1", "DDPStrategy")):
        told = {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": local, "CUDA_VISIBLE_DEVICES": ""}
        told |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "9", "GROUP_RANK": "0"}
        done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, env={**os.environ, **told})
        assert done.stdout.endswith(f"{wanted}\n"), done.stdout + done.stderr
