"""TAB in a magic's line: options, and the names of what there is."""

from __future__ import annotations

import pandas as pd
import pytest

import jupyter_mlp as mlp
from jupyter_mlp.core.references import Ref
from jupyter_mlp.frontends.completion import candidates
from jupyter_mlp.frontends.verbs import VERBS
from jupyter_mlp.store.workspace import Workspace

BY_NAME = {verb.name: verb for verb in VERBS}


@pytest.fixture
def filled(workspace: Workspace) -> Workspace:
    mlp.write_table("lake.flights", pd.DataFrame({"a": [1]}))
    for kind, verb, name in (("dataset", "query", "trips"), ("endpoint", "deploy", "delays"), ("snapshot", "snapshot", "1f3c")):
        with workspace.activities.recording(verb, name=name) as draft:
            draft.made.append(Ref(kind, name, "1"))
    for name in ("0001", "0002"):
        with workspace.activities.recording("train", name="Net") as draft:
            draft.made += [Ref("run", f"20260101-000000-0000{name}"), Ref("model", name)]
    return workspace


@pytest.mark.parametrize(
    ("verb", "line", "word", "expected"),
    [
        ("train", "%mlp_train Net --da", "--da", {"--data", "--target", "--gpus", "--fresh"}),
        ("train", "%mlp_train Net --data ", "", {"trips"}),
        ("train", "%mlp_train Net --gpus ", "", set()),
        ("data", "%mlp_data tr", "tr", {"trips"}),
        ("table", "%mlp_table ", "", {"lake.flights"}),
        ("evaluate", "%mlp_evaluate ", "", {"Net", "endpoint:delays"}),
        ("monitor", "%mlp_monitor ", "", {"delays"}),
        ("attach", "%mlp_attach ", "", {"run:20260101-000000-00000001", "run:20260101-000000-00000002"}),
        ("verify", "%mlp_verify ", "", {"snapshot:1f3c"}),
    ],
)
def test_what_may_stand_there(filled: Workspace, verb: str, line: str, word: str, expected: set[str]) -> None:
    found = set(candidates(BY_NAME[verb], line, word))
    assert expected <= found and (expected or not found)


def test_a_broken_workspace_is_silent(tmp_path: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLP_WORKSPACE", "/proc/nowhere")
    assert candidates(BY_NAME["data"], "%mlp_data ", "") == []
