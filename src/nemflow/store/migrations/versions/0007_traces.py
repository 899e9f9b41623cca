"""Which request brought a delivery, and in which trace.

Why: a message in a broker is the number of a delivery and nothing else; a worker on another
machine goes on in the trace of the request only when the ledger tells it.

Safe while an older worker runs: two columns without a default are added.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the two columns; what is there has neither."""
    trace = "W3C traceparent of the request that brought it, or retried it"
    op.add_column("delivery", sa.Column("trace", sa.Text(), comment=trace))
    request = "X-Request-ID of the request that brought it"
    op.add_column("delivery", sa.Column("request", sa.Text(), comment=request))
