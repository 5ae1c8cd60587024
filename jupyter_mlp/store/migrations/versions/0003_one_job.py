"""The same training twice is one job: at most one record of a key is running."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    # Records of two identical jobs that run at this moment: the older one stays.
    op.execute(
        "UPDATE activities SET state = 'failed', error = 'The same training was running already.' "
        "WHERE kind = 'train' AND state = 'running' AND identity IS NOT NULL AND seq > "
        "(SELECT MIN(same.seq) FROM activities AS same "
        "WHERE same.kind = 'train' AND same.state = 'running' AND same.identity = activities.identity)"
    )
    one = sa.text("kind = 'train' AND state = 'running' AND identity IS NOT NULL")
    op.create_index("one_job_of_a_key", "activities", ["identity"], unique=True, sqlite_where=one, postgresql_where=one)
