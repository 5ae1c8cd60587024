"""Aliases, recorded inputs, outcomes and verdicts on real endpoints; the short form of `make proof ARGS=verdicts`."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from models import ODD, make_model
from test_serving import ROW, Load, ask

import jupyter_mlp as mlp
from jupyter_mlp.core.errors import ConflictError, InvalidInputError, JobError, NotFoundError
from jupyter_mlp.core.references import Ref
from jupyter_mlp.deployment import Deployment, deploy
from jupyter_mlp.serving import experiment_tables, places, segments
from jupyter_mlp.serving.routing import Router, Variant
from jupyter_mlp.store.workspace import Workspace

sys.path.insert(0, str(Path(__file__).parent.parent))
import proof_sticky
import proof_swaps
import proof_verdicts


@pytest.fixture
def serving(workspace: Workspace) -> Iterator[Workspace]:
    """A workspace whose endpoints end with the test."""
    yield workspace
    places.stop_all(workspace)


def test_what_is_said_of_simulated_streams_is_true() -> None:
    found = proof_verdicts.run(400)
    assert [str(one) for one in found if not one.ok and one.bound not in (0.99, 0.01)] == []
    assert all(one.share > 0.98 if not one.at_most else one.share < 0.02 for one in found if one.bound in (0.99, 0.01))


def test_an_alias_moves_and_stands_wherever_a_model_is_named(serving: Workspace) -> None:
    one, two = make_model(serving, constant=1.0), make_model(serving, constant=2.0)
    assert mlp.alias("champion", one).model == f"model:{one}"
    assert mlp.deploy("model:champion", to="delays").variants[0].model == one
    moved = mlp.alias("champion", f"model:{two}")
    assert [move["model"] for move in moved.history] == [f"model:{two}", f"model:{one}"]
    assert mlp.deploy("champion", to="delays").variants[0].model == two
    found = mlp.find_models("Delay")
    assert [entry.aliases for entry in found.entries] == [("champion",), ()] and "endpoint" not in repr(found)
    card = repr(mlp.find_models("champion"))
    assert f"model:{two[:8]}" in card and "served by" in card and "endpoint:delays" in card
    assert len(mlp.find_models(f"model:{one}", "champion")) == 2 and len(mlp.find_models("nothing-like-it")) == 0
    assert mlp.alias("champion", remove=True).model is None
    with pytest.raises(NotFoundError, match="no alias champion"):
        mlp.alias("champion")
    with pytest.raises(ConflictError, match="name of trained models"):
        mlp.alias("Delay", one)
    with pytest.raises(NotFoundError, match="has a metric mae"):
        mlp.find_models(sort="mae")


def test_a_model_that_fails_on_recorded_requests_takes_no_traffic(serving: Workspace) -> None:
    at = deploy(make_model(serving, constant=1.0), to="delays")
    for _ in range(3):
        at.predict([ROW] * 10)
    time.sleep(0.7)
    slow = make_model(serving, code=ODD.replace("found = self", "import time; time.sleep(0.3); found = self"))
    with Load(at) as load:
        with pytest.raises(JobError, match="s are allowed"):
            deploy(slow, to="delays", traffic=10)
        rare = make_model(serving, code=ODD.replace("return -found", "return found / 0 if len(x) > 5 else -found"))
        with pytest.raises(JobError, match="recorded requests"):
            deploy(rare, to="delays")
    assert load.failures == [] and {model for _, model, _ in load.answers} == {at.variants[0].model}


def test_outcomes_become_tables_and_a_verdict(serving: Workspace) -> None:
    good, bad = make_model(serving, constant=1.0), make_model(serving, constant=3.0)
    deploy(bad, to="delays")
    at = deploy(good, to="delays", traffic=50)
    assert "No verdict yet" not in str(mlp.monitor("delays").verdicts), "nothing was asked, nothing is said"
    asked = [ask(at, {"instances": [ROW], "id": f"r{i}"})[1] for i in range(900)]
    truth = {one["id"]: 0.5 + 0.7 * (i % 2) for i, one in enumerate(asked)}
    time.sleep(0.7)
    few = mlp.outcomes("delays", data={"r0": 99.0, **dict(list(truth.items())[:40])})
    assert few.rows == 40 and {ref.split("@")[0] for ref in few.tables} == {"table:lake.delays_predictions", "table:lake.delays_outcomes"}
    (early,) = mlp.monitor("delays").verdicts
    assert early.winner is None and early.sentence.startswith("No verdict yet: about ")
    mlp.outcomes("delays", data=[{"id": name, "value": value} for name, value in truth.items()])
    report = mlp.monitor("delays")
    (verdict,) = report.verdicts
    assert verdict.requests == 900 and not verdict.split_wrong
    winner = "B" if verdict.b == good else "A"
    assert verdict.winner == winner and f"{winner} ({good[:8]}) is better than" in verdict.sentence and "safe to stop" in verdict.sentence
    assert verdict.sentence in repr(report)
    predictions = mlp.query(
        "SELECT model, count(*) AS n, count(DISTINCT id) AS ids FROM lake.delays_predictions GROUP BY model"
    ).to_pandas()
    assert predictions["n"].sum() == predictions["ids"].sum() == 900
    names = [ref.split("@")[0] for ref in map(str, serving.activities.maker(report.reference).used)]  # type: ignore[union-attr]
    assert "table:lake.delays_outcomes" in names
    folder = places.deployments.folder(serving, "delays")
    assert experiment_tables.fold(serving, folder) == experiment_tables.fold(serving, folder)


def by_share(at: Deployment, count: int) -> None:
    for number in range(count):
        assert ask(at, {"instances": [ROW], "key": f"{time.time_ns()}-{number}"})[0] == 200


def written(at: Deployment) -> int:
    """How many requests the log has by now."""
    log = places.deployments.folder(at.workspace, "delays").requests / "current.jsonl"
    return log.read_bytes().count(b"status") if log.exists() else 0


def callers_name_a_model(at: Deployment, champion: str) -> None:
    """Some clients were written for one model, and ask no other."""
    inputs = [
        {"name": "dep_delay", "shape": [1], "datatype": "FP64", "data": [4.0]},
        {"name": "carrier", "shape": [1], "datatype": "BYTES", "data": ["UA"]},
    ]
    by_share(at, 500)
    for _ in range(400):
        assert ask(at, {"inputs": inputs}, f"/v2/models/delays/versions/{champion}/infer")[0] == 200
    until(lambda: written(at) == 900)


def the_shares_are_edited(at: Deployment, champion: str) -> None:
    """Somebody puts an older copy of the endpoint's file back, and the endpoint starts again with its shares."""
    folder = places.deployments.folder(at.workspace, "delays")
    by_share(at, 600)
    until(lambda: written(at) == 600)
    wanted = folder.wanted()
    shares = {variant["model"]: 80 if variant["model"] == champion else 20 for variant in wanted["variants"]}
    folder.want({**wanted, "variants": [{**variant, "weight": shares[variant["model"]]} for variant in wanted["variants"]]})
    old = folder.actual()["pid"]
    os.kill(old, signal.SIGKILL)
    until(lambda: folder.actual().get("pid") not in (None, old))
    assert {variant["weight"] for variant in folder.actual()["serving"]} == {80, 20}
    by_share(at, 400)
    until(lambda: written(at) == 1000)


def a_filter_drops_what_one_model_answered(at: Deployment, champion: str) -> None:
    """Between the endpoint and whoever counts, half of one model's requests is lost."""
    log = places.deployments.folder(at.workspace, "delays").requests / "current.jsonl"
    by_share(at, 900)
    until(lambda: written(at) == 900)
    lines = log.read_bytes().splitlines(keepends=True)
    log.write_bytes(b"".join(line for number, line in enumerate(lines) if champion.encode() not in line or number % 2))


@pytest.mark.parametrize("broken", [callers_name_a_model, the_shares_are_edited, a_filter_drops_what_one_model_answered])
def test_requests_that_are_not_split_as_planned_get_no_verdict(serving: Workspace, broken: Callable[[Deployment, str], None]) -> None:
    champion, challenger = make_model(serving, constant=3.0), make_model(serving, constant=1.0)
    deploy(champion, to="delays")
    at = deploy(challenger, to="delays", traffic=50)
    best = at.variants[0].model
    broken(at, best)
    report = mlp.monitor("delays")
    (verdict,) = report.verdicts
    assert verdict.split_wrong and verdict.winner is None
    assert (
        verdict.sentence.startswith("No verdict: the requests were not split as planned. B (")
        and "did not answer alike callers" in verdict.sentence
    )
    assert [one.says for one in report.alarms if one.name.startswith("verdict")] == [verdict.sentence] and verdict.sentence in repr(report)
    deploy(challenger, to="delays", traffic=40)  # mended: another sharing of the requests begins at zero
    by_share(at, 300)
    (mended,) = mlp.monitor("delays").verdicts
    assert not mended.split_wrong


def test_a_full_log_reaches_the_lake_while_nobody_looks(serving: Workspace) -> None:
    at = deploy(make_model(serving, constant=1.0), to="delays")
    folder = places.deployments.folder(serving, "delays")
    asked = [ask(at, {"instances": [ROW], "id": f"r{i}"})[1]["id"] for i in range(20)]
    current = folder.requests / "current.jsonl"
    until(lambda: current.exists() and current.read_bytes().count(b"status") == 20)
    os.replace(current, folder.requests / segments.closed_name(".jsonl"))  # as it does when it is full
    name = experiment_tables.names("delays")[0]
    until(lambda: serving.lake.current(name) is not None, 60)
    found = experiment_tables.read(serving, Ref("table", name, serving.lake.current(name)), ["id"])
    assert sorted(found.column("id").to_pylist()) == sorted(asked)
    assert mlp.monitor("delays").metrics["lost"] == 0


def test_outcomes_are_refused_by_name(serving: Workspace) -> None:
    at = deploy(make_model(serving), to="delays")
    for body, field in (({"outcomes": [{"id": "x"}]}, "value"), ({"outcomes": [{"id": "", "value": 1}]}, "id"), ({"rows": []}, "rows")):
        status, said = ask(at, body, "/outcomes")
        assert status == 422 and field in said["field"] + said["error"], said
    assert ask(at, {"outcomes": []}, "/outcomes", headers={})[0] == 401
    with pytest.raises(InvalidInputError, match="no column value"):
        mlp.outcomes("delays", data=[{"id": "x", "truth": 1.0}])


def test_a_shadow_is_judged_on_the_same_requests(serving: Workspace) -> None:
    good, bad = make_model(serving, constant=1.0), make_model(serving, constant=1.2)
    deploy(bad, to="delays")
    at = deploy(good, to="delays", shadow=True)
    answers = mlp.predict("endpoint:delays", data=[ROW] * 400)
    assert len(answers.ids) == len(set(answers.ids)) == 400
    ids = [ask(at, {"instances": [ROW]})[1]["id"] for _ in range(300)]
    time.sleep(0.7)
    mlp.outcomes("delays", data={name: (i % 10) / 10 for i, name in enumerate(ids)})
    (verdict,) = mlp.monitor("delays").verdicts
    assert verdict.winner == "B" and verdict.b == good and verdict.requests == 300


def test_a_ramp_moves_by_itself_and_gives_back_what_fails(serving: Workspace) -> None:
    good, better = make_model(serving, constant=1.0), make_model(serving, constant=2.0)
    at = deploy(good, to="delays")
    failing = make_model(serving, code=ODD.replace("found = self", "assert x.abs().max() < 50; found = self"))
    seen: list[dict[str, int]] = []
    with Load(at) as load:
        deploy(better, to="delays", ramp="20,60,100", every="2s")
        until(lambda: shares(serving, seen)[-1] == {better: 100})
    assert [share[better] for share in seen] == [20, 60, 100] and load.failures == []
    deploy(failing, to="delays", ramp="50,100", every="1h")
    for number in range(60):
        ask(at, {"instances": [{"dep_delay": 1e5, "carrier": "UA"}], "key": f"user{number}"})
    until(lambda: shares(serving, seen)[-1] == {better: 100})
    newest = serving.activities.recent(["deploy"], limit=1)[0]
    assert newest.parameters["why"].startswith(f"rolled back {failing[:8]}: it failed on"), newest.parameters
    with pytest.raises(InvalidInputError, match="growing percentages"):
        deploy(good, to="delays", ramp="50,10")


def test_a_slow_model_on_a_ramp_goes_back_by_the_guard_or_beside_the_champion(serving: Workspace) -> None:
    good = make_model(serving, constant=1.0)
    slow = make_model(serving, code=ODD.replace("found = self", "import time; time.sleep(0.08); found = self"))
    at = deploy(good, to="delays")
    with pytest.raises(InvalidInputError, match="is no guard"):
        deploy(slow, to="delays", ramp="50,100", guard=["p99<=fast"])
    with pytest.raises(InvalidInputError, match="there is none"):
        deploy(slow, to="delays", traffic=50, guard=["p99<=40ms"])
    for guarded, asked, why in ((["p99<=40ms"], 40, "took more than 40 ms (p99<=40ms)"), ([], 150, "ms in the middle, the champion")):
        deploy(slow, to="delays", ramp="50", every="1s", guard=guarded)
        for number in range(asked):
            ask(at, {"instances": [ROW], "key": f"user{number}"})
        until(lambda: shares(serving, [])[-1] == {good: 100})
        newest = serving.activities.recent(["deploy"], limit=1)[0]
        assert newest.parameters["why"].startswith(f"rolled back {slow[:8]}: ") and why in newest.parameters["why"], newest.parameters


def shares(workspace: Workspace, seen: list[dict[str, int]]) -> list[dict[str, int]]:
    now = {v["model"]: v["weight"] for v in places.deployments.folder(workspace, "delays").actual()["serving"]}
    if not seen or seen[-1] != now:
        seen.append(now)
    return seen


def until(true: Callable[[], bool], limit_s: float = 20.0) -> None:
    deadline = time.monotonic() + limit_s
    while not true():
        assert time.monotonic() < deadline, "took too long"
        time.sleep(0.02)


@pytest.mark.slow
def test_swaps_under_an_open_load_fail_nobody(workspace: Workspace, tmp_path: Path) -> None:
    found = proof_swaps.run(tmp_path, requests=3000, rate=200, good=6, bad=5, kills=1, parents=1)
    assert found.failed == [] and found.mixed == 0 and found.accepted == 0 and sum(found.refused.values()) == 5, found
    assert found.health.lies == [] and found.health.ready > 100, found
    # The long form holds twice the steady one; of a thousand requests beside other tests one pause of the machine makes ten slow.
    assert found.swaps_p99 <= max(2 * found.steady_p99, 250.0), found
    assert [one.what for one in found.killed] == ["the serving process", "its parent"] and all(one.back_s < 5 for one in found.killed), (
        found
    )
    # Those that it had in hand are lost with a process: of so few requests, more than the one in a thousand that the long form allows.
    assert all(len(one.failed) <= 0.005 * one.requests for one in found.killed), found


def test_health_lies_where_what_it_promised_fails_unless_that_was_killed_meanwhile() -> None:
    watched = [[1.0, True, 1.1, ""], [2.0, True, 2.1, "reset"], [3.0, False, 3.0, ""], [4.0, True, 4.1, "status 503"]]
    assert proof_swaps.lies(watched, [(2.05, 2.06)]) == ["status 503"]
    assert proof_swaps.lies(watched, []) == ["reset", "status 503"]


KEYS = """
from jupyter_mlp.serving.routing import Router, Variant
router = Router([Variant("a", 90), Variant("b", 10)], "delays")
print("".join(router.choose(key) for key in range(10_000)))
"""


def test_keys_keep_their_model_over_restarts() -> None:
    variants = [Variant("a", 90), Variant("b", 10)]
    chosen = [Router(variants, "delays").choose(key) for key in range(10_000)]
    for _ in range(20):
        assert subprocess.run([sys.executable, "-c", KEYS], capture_output=True, text=True, check=True).stdout.strip() == "".join(chosen)
    assert abs(chosen.count("b") - 1000) < 3.9 * (10_000 * 0.09) ** 0.5
    elsewhere = [Router(variants, "other").choose(key) for key in range(10_000)]
    assert 50 < sum(a == b == "b" for a, b in zip(chosen, elsewhere, strict=True)) < 160, "another endpoint, another split"
    wider = [Router([Variant("a", 50), Variant("b", 50)], "delays").choose(key) for key in range(10_000)]
    assert all(now == "b" for now, before in zip(wider, chosen, strict=True) if before == "b"), "a ramp takes nobody back"


@pytest.mark.slow
def test_callers_stay_with_their_model_while_a_real_endpoint_is_restarted_in_every_way(workspace: Workspace) -> None:
    """The short form of `make proof ARGS=sticky`."""
    found = proof_sticky.run(keys=2000, restarts=6)
    assert found.ok and len(found.changed) == found.restarts == 6, str(found)
