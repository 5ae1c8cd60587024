"""Schedules and their ticks: a tick is known by its schedule and its moment (or the table version it is for), once."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    op.create_table(
        "schedules",
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("state", sa.Text, nullable=False),  # active | paused | removed
        sa.Column("spec", sa.Text, nullable=False),
        sa.Column("seen", sa.Text, nullable=False),  # the last tick that was planned
        sa.Column("created_at", sa.Float, nullable=False),
        sa.Column("username", sa.Text, nullable=False),
    )
    op.create_table(
        "ticks",
        sa.Column("schedule", sa.Text, sa.ForeignKey("schedules.name"), nullable=False),
        sa.Column("tick", sa.Text, nullable=False),
        sa.Column("due", sa.Float, nullable=False),
        sa.Column("state", sa.Text, nullable=False),  # waiting | running | finished | failed | skipped
        sa.Column("attempt", sa.Integer, nullable=False),
        sa.Column("failures", sa.Integer, nullable=False),
        sa.Column("not_before", sa.Float, nullable=False),
        sa.Column("owner", sa.Text, nullable=False),  # the process that does it, as JSON; empty when none does
        sa.Column("beat", sa.Float, nullable=False),
        sa.Column("started_at", sa.Float),
        sa.Column("ended_at", sa.Float),
        sa.Column("told", sa.Integer, nullable=False),  # 1: who wants to know has been told; below 0: tried so often
        sa.Column("facts", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("schedule", "tick"),
    )
    op.create_index("ticks_by_state", "ticks", ["state", "not_before"])
    op.create_index("ticks_by_due", "ticks", ["due"])
    op.create_index("ticks_untold", "ticks", ["told", "state"])
