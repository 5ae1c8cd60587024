"""jupyter_mlp: a machine learning platform that lives in the notebook.

Manage data, train, evaluate, deploy, predict, monitor - and repeat. Everything is an activity that used versioned
things and made versioned things:

    table:lake.flights@...  --query-->  dataset:trips@...  --fit-->  recipe:delays@...  --train-->  run:...  model:<uuid>
    model  --evaluate-->  evaluation      model  --deploy-->  endpoint:delays  --monitor-->  report
    notebook  --snapshot-->  snapshot:...  --verify-->  the same, cell by cell

In a notebook `%load_ext jupyter_mlp` adds one magic per verb; on the command line the verbs are `mlp VERB`; here they are
functions. All three take the same names and return the same objects. Nothing heavy is imported before it is needed.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from jupyter_mlp.core.imports import importing

__version__ = "0.1.0"

_WHERE = {
    "query": "data",
    "statement": "data",
    "dataset": "data",
    "write_table": "data",
    "recipe": "recipes",
    "features": "recipes",
    "train": "training",
    "run": "training",
    "runs": "comparison",
    "evaluate": "evaluation",
    "explain": "explanation",
    "deploy": "deployment",
    "endpoint": "deployment",
    "predict": "prediction",
    "outcomes": "experiments",
    "find_models": "model_registry",
    "alias": "model_registry",
    "set_license": "model_registry",
    "monitor": "monitoring",
    "retrain": "retraining",
    "snapshot": "snapshots",
    "verify": "verification",
    "diff": "differences",
    "to_pipeline": "pipelines",
    "run_notebook": "pipelines",
    "schedule": "scheduling",
    "schedules": "scheduling",
    "history": "scheduling",
    "graph": "inspection",
    "status": "inspection",
    "clusters": "machines",
    "doctor": "diagnosis",
    "gc": "housekeeping",
    "forget": "housekeeping",
    "pin": "housekeeping",
    "compact": "housekeeping",
    "impact": "downstream",
    "MLPError": "core.errors",
}
__all__ = sorted(_WHERE)

if TYPE_CHECKING:
    from jupyter_mlp.comparison import runs as runs
    from jupyter_mlp.core.errors import MLPError as MLPError
    from jupyter_mlp.data import dataset as dataset
    from jupyter_mlp.data import query as query
    from jupyter_mlp.data import statement as statement
    from jupyter_mlp.data import write_table as write_table
    from jupyter_mlp.deployment import deploy as deploy
    from jupyter_mlp.deployment import endpoint as endpoint
    from jupyter_mlp.diagnosis import doctor as doctor
    from jupyter_mlp.differences import diff as diff
    from jupyter_mlp.downstream import impact as impact
    from jupyter_mlp.evaluation import evaluate as evaluate
    from jupyter_mlp.experiments import outcomes as outcomes
    from jupyter_mlp.explanation import explain as explain
    from jupyter_mlp.housekeeping import compact as compact
    from jupyter_mlp.housekeeping import forget as forget
    from jupyter_mlp.housekeeping import gc as gc
    from jupyter_mlp.housekeeping import pin as pin
    from jupyter_mlp.inspection import graph as graph
    from jupyter_mlp.inspection import status as status
    from jupyter_mlp.machines import clusters as clusters
    from jupyter_mlp.model_registry import alias as alias
    from jupyter_mlp.model_registry import find_models as find_models
    from jupyter_mlp.model_registry import set_license as set_license
    from jupyter_mlp.monitoring import monitor as monitor
    from jupyter_mlp.pipelines import run_notebook as run_notebook
    from jupyter_mlp.pipelines import to_pipeline as to_pipeline
    from jupyter_mlp.prediction import predict as predict
    from jupyter_mlp.recipes import features as features
    from jupyter_mlp.recipes import recipe as recipe
    from jupyter_mlp.retraining import retrain as retrain
    from jupyter_mlp.scheduling import history as history
    from jupyter_mlp.scheduling import schedule as schedule
    from jupyter_mlp.scheduling import schedules as schedules
    from jupyter_mlp.snapshots import snapshot as snapshot
    from jupyter_mlp.training import run as run
    from jupyter_mlp.training import train as train
    from jupyter_mlp.verification import verify as verify


def __getattr__(name: str) -> Any:
    if name in _WHERE:
        with importing():
            return getattr(import_module(f"jupyter_mlp.{_WHERE[name]}"), name)
    raise AttributeError(f"module 'jupyter_mlp' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__


def load_ipython_extension(shell: Any) -> None:
    """Add the magics to a running IPython: `%load_ext jupyter_mlp`."""
    with importing():
        from jupyter_mlp.frontends.extension import load

    load(shell)


def _jupyter_server_extension_points() -> list[dict[str, str]]:
    return [{"module": "jupyter_mlp"}]


def _load_jupyter_server_extension(server: Any) -> None:
    """Add the sidebar's routes to a Jupyter server."""
    from jupyter_mlp.frontends.handlers import load

    load(server)


def _jupyter_labextension_paths() -> list[dict[str, str]]:
    return [{"src": "labextension", "dest": "jupyter_mlp"}]
