"""What there is, what depends on what, and what may go."""

from __future__ import annotations

from argparse import Namespace
from typing import Any

from jupyter_mlp.frontends.arguments import Context, Verb, option
from jupyter_mlp.frontends.naming import reference_of


def _graph(given: Namespace, context: Context) -> Any:
    import jupyter_mlp as mlp

    return mlp.graph(reference_of(given.ref, context.names))


def _impact(given: Namespace, context: Context) -> Any:
    import jupyter_mlp as mlp

    return mlp.impact(reference_of(given.what, context.names))


def _status(given: Namespace, context: Context) -> Any:
    import jupyter_mlp as mlp

    return mlp.status()


def _doctor(given: Namespace, context: Context) -> Any:
    import jupyter_mlp as mlp

    return mlp.doctor()


def _gc(given: Namespace, context: Context) -> Any:
    import jupyter_mlp as mlp

    return mlp.gc(yes=given.yes)


def _forget(given: Namespace, context: Context) -> Any:
    import jupyter_mlp as mlp

    return mlp.forget(reference_of(given.ref, context.names), cascade=given.cascade, all=given.all)


LOOK_VERBS: tuple[Verb, ...] = (
    Verb(
        "graph",
        "Draw what was made from what.",
        (option("ref", nargs="?", help="only what leads to and from this reference"),),
        _graph,
        example="%mlp_graph model:1f3c",
    ),
    Verb(
        "impact",
        "List everything that depends on a table, a dataset or one of their columns, with the cell that made it.",
        (option("what", help="lake.flights, lake.flights.dep_delay, dataset:trips.hour, model:1f3c ...", completes="table"),),
        _impact,
        example="%mlp_impact lake.flights.dep_delay",
    ),
    Verb("status", "Show what is running and what was made last.", (), _status, example="%mlp_status"),
    Verb("doctor", "Check this installation and say how to mend it.", (), _doctor, example="mlp doctor"),
    Verb(
        "gc",
        "Say what nothing refers to and who keeps the rest; with --yes remove it.",
        (option("--yes", action="store_true", help="remove it; without this nothing changes"),),
        _gc,
        example="mlp gc --yes",
    ),
    Verb(
        "forget",
        "Release a version, run, model or snapshot: it is kept no longer. Refused while something needs it.",
        (
            option("ref", help="trips@1f3c, lake.flights@8213, run:ID, model:UUID, snapshot:ID, pin:ID", completes="dataset"),
            option("--cascade", action="store_true", help="what was made of it too"),
            option("--all", action="store_true", help="every version of that name; of a table: drop it"),
        ),
        _forget,
        example="mlp forget trips@1f3c --cascade",
    ),
)
