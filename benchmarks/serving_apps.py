"""What each peer's process runs: `PYTHON serving_apps.py NAME PORT WIDTH...` serves an MLP with hidden layers of these widths.

Annotations are not postponed here: FastAPI and Ray Serve read those of functions inside functions.
"""

import os
import signal
import sys
import tempfile
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

FEATURES = 32


def network(hidden: Sequence[int]) -> Any:
    """The MLP, on one thread."""
    import torch

    torch.set_num_threads(1)
    torch.manual_seed(0)
    widths = [FEATURES, *hidden]
    layers = [part for one in pairwise(widths) for part in (torch.nn.Linear(*one), torch.nn.ReLU())]
    return torch.nn.Sequential(*layers, torch.nn.Linear(widths[-1], 1)).eval()


def _one(model: Any, x: list[float]) -> float:
    import torch

    with torch.inference_mode():
        return float(model(torch.tensor([x]))[0, 0].item())


def _many(model: Any, rows: list[list[float]]) -> list[float]:
    import torch

    with torch.inference_mode():
        return list(model(torch.tensor(rows))[:, 0].tolist())


def fastapi(port: int, hidden: Sequence[int]) -> None:
    """The model in the process that speaks HTTP, an async endpoint."""
    import uvicorn
    from fastapi import FastAPI
    from pydantic import BaseModel

    class Body(BaseModel):
        x: list[float]

    app, model = FastAPI(), network(hidden)

    @app.post("/predict")
    async def predict(body: Body) -> dict[str, float]:
        return {"y": _one(model, body.x)}

    uvicorn.run(app, host="127.0.0.1", port=port, log_level="error", access_log=False)


def ray(port: int, hidden: Sequence[int]) -> None:
    """One replica at /predict, and one that batches at /batched."""
    import ray
    from ray import serve
    from starlette.requests import Request

    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    serve.start(http_options={"host": "127.0.0.1", "port": port})

    class Plain:
        def __init__(self) -> None:
            self.model = network(hidden)

        async def __call__(self, request: Request) -> dict[str, float]:
            return {"y": _one(self.model, (await request.json())["x"])}

    class Batched:
        def __init__(self) -> None:
            self.model = network(hidden)

        @serve.batch(max_batch_size=32, batch_wait_timeout_s=0.002)
        async def many(self, rows: list[list[float]]) -> list[float]:
            return _many(self.model, rows)

        async def __call__(self, request: Request) -> dict[str, float]:
            return {"y": await self.many((await request.json())["x"])}

    deployed = serve.deployment(ray_actor_options={"num_cpus": 1}, max_ongoing_requests=64)
    serve.run(deployed(Plain).bind(), name="plain", route_prefix="/predict")
    serve.run(deployed(Batched).bind(), name="batched", route_prefix="/batched")
    signal.pause()


def mlflow(port: int, hidden: Sequence[int]) -> None:
    """MLflow's own scoring server over a pyfunc model."""
    import mlflow.pyfunc
    import numpy as np
    import uvicorn
    from mlflow.pyfunc import scoring_server

    class Wrapped(mlflow.pyfunc.PythonModel):  # type: ignore[misc, name-defined, unused-ignore]
        def load_context(self, context: Any) -> None:
            self.model = network(hidden)

        def predict(self, context: Any, model_input: Any, params: Any = None) -> Any:
            return np.array(_many(self.model, np.asarray(model_input, np.float32).tolist()))

    path = str(Path(tempfile.mkdtemp(dir="."), "model"))
    mlflow.pyfunc.save_model(path, python_model=Wrapped(), pip_requirements=["torch"])
    app = scoring_server.init(mlflow.pyfunc.load_model(path))
    uvicorn.run(app, host="127.0.0.1", port=port, log_level="error", access_log=False)


def bentoml(port: int, hidden: Sequence[int]) -> None:
    """BentoML's own server over the service below."""
    os.environ["PEER_WIDTHS"] = ",".join(map(str, hidden))
    what = ["serve", "serving_apps:Bento", "--working-dir", str(Path(__file__).parent), "--host", "127.0.0.1", "--port", str(port), "-q"]
    os.execv(sys.executable, [sys.executable, "-m", "bentoml", *what])


if os.environ.get("PEER_WIDTHS"):
    import bentoml as _bentoml

    @_bentoml.service(workers=1, traffic={"timeout": 30}, metrics={"enabled": False})
    class Bento:
        """The model."""

        def __init__(self) -> None:
            self.model = network([int(width) for width in os.environ["PEER_WIDTHS"].split(",")])

        @_bentoml.api
        def predict(self, x: list[float]) -> float:
            """One row."""
            return _one(self.model, x)


if sys.argv[1:] and sys.argv[1].startswith("litserve"):  # its worker process reads the class from the module
    import litserve as _litserve

    class Lit(_litserve.LitAPI):
        """The model in one worker."""

        def setup(self, device: str) -> None:
            """Make it."""
            self.model = network([int(width) for width in sys.argv[3:]])

        def decode_request(self, request: dict[str, Any]) -> Any:
            """A request's row."""
            import torch

            return torch.tensor(request["x"])

        def predict(self, x: Any) -> Any:
            """A row, or rows where it batches."""
            import torch

            with torch.inference_mode():
                return self.model(x if x.dim() == 2 else x[None])[:, 0]

        def unbatch(self, output: Any) -> list[Any]:
            """Each row's."""
            return list(output)

        def encode_response(self, output: Any) -> dict[str, float]:
            """An answer."""
            return {"y": output.reshape(-1)[0].item()}

    def _litserve_on(port: int, hidden: Sequence[int]) -> None:
        options = {"max_batch_size": 32, "batch_timeout": 0.002} if sys.argv[1] == "litserve-batched" else {}
        server = _litserve.LitServer(Lit(**options), accelerator="cpu", workers_per_device=1, timeout=30)
        server.run(host="127.0.0.1", port=port, num_api_servers=1, generate_client_file=False, log_level="error")


if __name__ == "__main__":
    of: dict[str, Callable[[int, Sequence[int]], None]] = {"fastapi": fastapi, "ray": ray, "mlflow": mlflow, "bentoml": bentoml}
    serve = of.get(sys.argv[1]) or _litserve_on
    serve(int(sys.argv[2]), [int(width) for width in sys.argv[3:]])
