"""What each metric is called, what it says, and by which labels it is told apart: the list that docs/metrics.md has.

Names follow the conventions of Prometheus: base units, `_total` for what only grows.
https://prometheus.io/docs/practices/naming/
"""

from __future__ import annotations

from typing import Final

from attrs import frozen


@frozen
class Family:
    """One metric.

    Attributes:
        name: as it is exposed; of a histogram, without `_bucket`, `_sum` and `_count`.
        kind: `counter`, `gauge` or `histogram`.
        labels: their names.
        says: in a line.
    """

    name: str
    kind: str
    labels: tuple[str, ...]
    says: str


_TYPE: Final = ("endpoint", "type")
_ENDPOINT: Final = ("endpoint",)

HANDLED: Final = Family(
    "sagabus_messages_handled_total", "counter", _TYPE, "Messages acked, all their handlers through with them."
)
FAILED: Final = Family(
    "sagabus_messages_failed_total", "counter", _TYPE, "Tries that ended with an error, or took too long."
)
RETRIED: Final = Family(
    "sagabus_messages_retried_total", "counter", _TYPE, "Messages put off to be tried again, for whatever reason."
)
DEAD: Final = Family("sagabus_messages_dead_total", "counter", _TYPE, "Messages dead-lettered.")
EARLY: Final = Family(
    "sagabus_messages_early_total", "counter", _ENDPOINT, "Tries of messages whose saga had not started."
)
REPEATED: Final = Family(
    "sagabus_messages_repeated_total", "counter", _ENDPOINT, "Messages that their saga had handled before."
)
PARKED: Final = Family(
    "sagabus_messages_parked_total",
    "counter",
    _ENDPOINT,
    "Messages put off because others were faster, or held the lease, again and again.",
)
COMMITS: Final = Family(
    "sagabus_commits_total",
    "counter",
    ("endpoint", "outcome", "reason"),
    "Commits of sagas by outcome: stored, forked, again (and why), duplicate, late.",
)
MERGES: Final = Family("sagabus_merges_total", "counter", _ENDPOINT, "Commits that folded siblings into one state.")
MERGES_FAILED: Final = Family(
    "sagabus_merges_failed_total", "counter", _ENDPOINT, "Runs whose siblings could not be folded: the merger raised."
)
MERGED: Final = Family("sagabus_merged_siblings_total", "counter", _ENDPOINT, "Siblings that these have folded.")
MERGES_POSTED: Final = Family(
    "sagabus_merge_messages_posted_total", "counter", _ENDPOINT, "MergeSagaState messages posted by commits."
)
DROPPED: Final = Family(
    "sagabus_decisions_dropped_total", "counter", _ENDPOINT, "Decisions dropped because their commit forked."
)
LATENCY: Final = Family(
    "sagabus_message_latency_seconds",
    "histogram",
    _ENDPOINT,
    "From when a message was made until it was acked, retries included; timers are left out.",
)
HANDLER: Final = Family(
    "sagabus_handler_seconds",
    "histogram",
    _ENDPOINT,
    "How long a consumer's handler took, or one run of a saga: merge, handlers, decide().",
)
SIBLINGS: Final = Family(
    "sagabus_siblings", "histogram", _ENDPOINT, "How many versions sagas had when they were loaded."
)
WORKER_UP: Final = Family(
    "sagabus_worker_up", "gauge", ("worker",), "Whether a worker process of this command runs and gets on."
)
RESTARTS: Final = Family(
    "sagabus_worker_restarts_total", "counter", (), "Worker processes of this command that were replaced."
)

OF_PROCESS: Final = (
    *(HANDLED, FAILED, RETRIED, DEAD, EARLY, REPEATED, PARKED, COMMITS, MERGES, MERGES_FAILED),
    *(MERGED, MERGES_POSTED, DROPPED),
    *(LATENCY, HANDLER, SIBLINGS, WORKER_UP, RESTARTS),
)
"""What the workers of one command have done; add them up over all that are scraped."""

UP: Final = Family("sagabus_up", "gauge", ("server",), "Whether the store, and the broker, answered.")
DEPTH: Final = Family(
    "sagabus_queue_depth", "gauge", _ENDPOINT, "Messages that wait or are being handled; absent where nobody can tell."
)
AGE: Final = Family(
    "sagabus_queue_age_seconds",
    "gauge",
    _ENDPOINT,
    "How long ago the oldest message of a queue came; 0: none.",
)
PAUSED: Final = Family("sagabus_endpoint_paused", "gauge", _ENDPOINT, "Whether an endpoint is paused.")
WORKERS: Final = Family(
    "sagabus_workers",
    "gauge",
    ("state",),
    "Worker processes, of all commands, that showed themselves within 15 s.",
)
SAGAS: Final = Family("sagabus_sagas", "gauge", ("saga", "lifecycle"), "Sagas stored, by class.")
FORKED: Final = Family("sagabus_forked_sagas", "gauge", (), "Sagas that have siblings.")
OLDEST_FORK: Final = Family(
    "sagabus_oldest_fork_seconds", "gauge", (), "For how long the first of them has had siblings; 0: none."
)
LETTERS: Final = Family("sagabus_dead_letters", "gauge", (), "Dead letters in the store.")
OVERDUE: Final = Family(
    "sagabus_timers_overdue_seconds", "gauge", (), "How long ago the next waiting message was due; 0: none is overdue."
)

OF_STORE: Final = (UP, DEPTH, AGE, PAUSED, WORKERS, SAGAS, FORKED, OLDEST_FORK, LETTERS, OVERDUE)
"""What lies in the store and the queues: whoever is scraped says the same, so take one of them."""

FAMILIES: Final = (*OF_PROCESS, *OF_STORE)
