"""The verbs of schedules."""

from __future__ import annotations

from argparse import Namespace
from typing import Any

from jupyter_mlp.frontends.arguments import Context, Verb, assignments, at_least, option


def _schedule(given: Namespace, context: Context) -> Any:
    import jupyter_mlp as mlp

    return mlp.schedule(
        given.notebook,
        cron=given.cron,
        on=given.on,
        tz=given.tz,
        parameters=assignments(given.params, context.names, "-p", typed=False),
        name=given.name,
        catch_up=given.catch_up,
        retries=given.retries,
        backoff=given.backoff,
        timeout=given.timeout,
        max_running=given.max_running,
        notify=given.notify or (),
        template=given.template,
        output=given.output,
    )


def _schedules(given: Namespace, context: Context) -> Any:
    import jupyter_mlp as mlp

    return mlp.schedules(given.name, pause=given.pause, resume=given.resume, remove=given.remove, run=given.run, serve=given.serve)


def _history(given: Namespace, context: Context) -> Any:
    import jupyter_mlp as mlp

    return mlp.history(given.schedule, limit=given.limit)


SCHEDULE_VERBS: tuple[Verb, ...] = (
    Verb(
        "schedule",
        "Let a notebook run by itself, at times or for every new version of a table.",
        (
            option("notebook", help="a notebook file", completes="file"),
            option("--cron", metavar="LINE", help="minute, hour, day of month, month, day of week: '0 3 * * *'"),
            option("--on", metavar="TABLE", help="run for every new version of this table instead", completes="table"),
            option("--tz", metavar="ZONE", help="the clocks that --cron means, like Europe/Zurich; this machine's when left out"),
            option("-p", "--params", action="append", metavar="NAME=VALUE", help="a parameter of the notebook"),
            option("--name", help="the schedule's name; the notebook's when left out"),
            option("--catch-up", default="latest", help="of what was missed, run the latest, all, or skip (latest)"),
            option("--retries", type=at_least(0), default=0, help="attempts after a failure (0)"),
            option("--backoff", default="1min", metavar="TIME", help="wait before the first of them; doubled each time (1min)"),
            option("--timeout", metavar="TIME", help="a run that takes longer has failed"),
            option("--max-running", type=at_least(1), default=1, help="runs of it at the same time (1)"),
            option("--notify", action="append", metavar="WHOM", help="https://..., mailto:... or command:..., for failures and recovery"),
            option("--template", metavar="NAME", help="write the files of cron, systemd, airflow, argo or slurm instead"),
            option("--output", metavar="FOLDER", help="where these files go; the current folder when left out"),
        ),
        _schedule,
        example="mlp schedule nightly.ipynb --cron '0 3 * * *' --tz Europe/Zurich -p month=2",
    ),
    Verb(
        "schedules",
        "List the schedules; pause, resume or remove one, or let it run now.",
        (
            option("name", nargs="?", help="a schedule's name"),
            option("--pause", action="store_true", help="it is due no longer, until --resume"),
            option("--resume", action="store_true", help="end the pause"),
            option("--remove", action="store_true", help="it is due no longer; its history stays"),
            option("--run", action="store_true", help="once now, beside what falls due"),
            option("--serve", action="store_true", help="be a scheduler, in the foreground"),
        ),
        _schedules,
        example="mlp schedules nightly --pause",
    ),
    Verb(
        "history",
        "Show what became of the newest due runs.",
        (
            option("schedule", nargs="?", help="only of this schedule"),
            option("--limit", type=at_least(1), default=20, help="so many (20)"),
        ),
        _history,
        example="mlp history nightly",
    ),
)
