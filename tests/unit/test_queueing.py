"""Jobs wait in order; small ones fill gaps and never delay a larger one before them, however long they all take."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from jupyter_mlp.core.queueing import FILLS, RUNS, WAITS, Ticket, decided, places


def test_in_order_by_priority_and_the_gap_is_filled() -> None:
    tickets = [
        Ticket("a", 3, 0, 1, RUNS),
        Ticket("big", 4, 0, 2),
        Ticket("late", 1, 0, 3),
        Ticket("later", 1, 0, 4),
        Ticket("urgent", 2, 5, 5),
    ]
    assert decided(tickets, 4) == {"a": RUNS, "urgent": WAITS, "big": WAITS, "late": FILLS, "later": WAITS}
    assert places(tickets, ["urgent", "big", "later"]) == {"urgent": 1, "big": 2, "later": 3}
    assert decided(tickets[1:], 4) == {"urgent": RUNS, "big": WAITS, "late": FILLS, "later": FILLS}


def test_who_fills_a_gap_gives_it_back_or_comes_to_stay() -> None:
    fills = Ticket("small", 1, 0, 2, FILLS)
    assert decided([Ticket("big", 2, 0, 1), fills], 2) == {"big": RUNS, "small": WAITS}
    assert decided([fills], 2) == {"small": RUNS}
    assert decided([Ticket("a", 1, 0, 0, RUNS), Ticket("big", 2, 0, 1), Ticket("other", 1, 9, 3, FILLS), fills], 3)["small"] == FILLS


def test_more_than_there_is_runs_alone() -> None:
    assert decided([Ticket("huge", 8, 0, 1), Ticket("small", 1, 0, 2)], 2) == {"huge": RUNS, "small": WAITS}


JOBS = st.lists(st.tuples(st.integers(1, 5), st.integers(1, 6), st.integers(0, 2)), min_size=1, max_size=8)


@given(JOBS, st.integers(1, 5))
def test_nobody_is_delayed_by_those_behind(jobs: list[tuple[int, int, int]], capacity: int) -> None:
    """All submitted at once: each ends when it would end without everything behind it in the queue."""
    ended = _ends(jobs, capacity)
    ordered = sorted(range(len(jobs)), key=lambda job: (-jobs[job][2], job))
    for place, job in enumerate(ordered):
        before = [jobs[one] for one in sorted(ordered[: place + 1])]
        alone = _ends(before, capacity)
        assert ended[job] == alone[sorted(ordered[: place + 1]).index(job)]


def _ends(jobs: list[tuple[int, int, int]], capacity: int) -> list[int]:
    """Simulate, in steps of one unit of time: when each job ends. One that gives its gap back begins again."""
    states, left, ended = [WAITS] * len(jobs), [length for _, length, _ in jobs], [-1] * len(jobs)
    for now in range(1000):
        there = [job for job in range(len(jobs)) if left[job] > 0]
        if not there:
            return ended
        told = decided([Ticket(str(job), jobs[job][0], jobs[job][2], job, states[job]) for job in there], capacity)
        assert sum(min(jobs[job][0], capacity) for job in there if told[str(job)] != WAITS) <= capacity
        assert RUNS in told.values(), "the queue stands still"
        for job in there:
            states[job] = told[str(job)]
            left[job] = jobs[job][1] if states[job] == WAITS else left[job] - 1
            ended[job] = now
    raise AssertionError("jobs never end")
