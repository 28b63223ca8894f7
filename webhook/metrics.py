"""``/metrics``, for Prometheus: every process tells the same numbers, for they are Redis's."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from flask import Blueprint, Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from datafab.core.metrics import ClusterMetrics, MetricsSnapshot
from datafab.core.redis import DURATION_BOUNDS
from datafab.version import __version__
from webhook.site import site

routes = Blueprint("metrics", __name__)


class Counted(NamedTuple):
    """A counter: its field in ``counts`` and what is told of it."""

    field: str
    name: str
    help: str
    labels: tuple[str, ...]


#: The order of the labels is that of the field.
COUNTED = (
    Counted("made", "datafab_jobs_made", "Jobs that were accepted.", ("flow",)),
    Counted("ended", "datafab_jobs_ended", "Jobs that have ended; a parked one may end again.", ("state", "flow")),
    Counted("items", "datafab_items", "Items that a stage had in hand, by what became of them.", ("stage", "status")),
    Counted("bytes", "datafab_bytes", "Bytes of the resources of these items.", ("stage", "status")),
    Counted(
        "attempts",
        "datafab_attempts",
        "Attempts at a batch: ended, waited, died with their process, stopped with it, lost with a process of threads.",
        ("stage", "outcome"),
    ),
    Counted("stale", "datafab_stale_copies", "Copies of tasks that were dropped.", ("stage",)),
    Counted("sent_again", "datafab_sent_again", "Tasks that the tick sent, by what their row was before.", ("state",)),
)


class Measurements(Collector):
    """One look's numbers in Prometheus's terms."""

    def __init__(self, measured: MetricsSnapshot) -> None:
        self._measured = measured

    def collect(self) -> Iterable[Metric]:
        """Yield every family, those without numbers too."""
        yield _gauge("datafab_info", "The version that answers.", ("version",), [((__version__,), 1)])
        yield from self._gauges()
        for counted in COUNTED:
            family = CounterMetricFamily(counted.name, counted.help, labels=counted.labels)
            for (name, *labels), value in sorted(self._measured.counts.items()):
                if name == counted.field:
                    family.add_metric(labels, value)
            yield family
        yield self._durations()

    def _gauges(self) -> Iterator[Metric]:
        now = self._measured
        yield _gauge("datafab_jobs", "Jobs that have not ended.", ("state", "flow"), now.jobs.items())
        oldest = _single(now.oldest)
        yield _gauge("datafab_oldest_job_seconds", "Age of the oldest job that has not ended.", ("state",), oldest)
        parked = [((), now.parked)]
        yield _gauge("datafab_parked_jobs", "Jobs that `datafab jobs retry` may try again.", (), parked)
        yield _gauge("datafab_ledger_rows", "Tasks that are to run or wait.", ("state",), _single(now.rows))
        lag = [((), now.overdue)]
        yield _gauge("datafab_overdue_seconds", "How long the first due task has been due: the tick's lag.", (), lag)
        queues = _single(now.queues)
        yield _gauge("datafab_queue_messages", "Messages that no worker has fetched.", ("queue",), queues)
        held = [((), now.unacknowledged)]
        yield _gauge("datafab_unacknowledged_messages", "Messages that a worker has fetched and holds.", (), held)

    def _durations(self) -> Metric:
        """Return how long the attempts took that ended."""
        counts = self._measured.counts
        text = "Seconds of an attempt at a batch that ended."
        family = HistogramMetricFamily("datafab_attempt_seconds", text, labels=("stage",))
        for stage in sorted(labels[1] for labels in counts if labels[0] == "seconds"):
            buckets, below = [], 0.0
            for limit, bound in (*zip(DURATION_BOUNDS, DURATION_BOUNDS, strict=True), ("more", "+Inf")):
                below += counts.get(("took", stage, limit), 0.0)
                buckets.append((bound, below))
            family.add_metric((stage,), buckets, counts["seconds", stage])
        return family


def _gauge(
    name: str, text: str, labels: Sequence[str], values: Iterable[tuple[Sequence[str], float]]
) -> GaugeMetricFamily:
    family = GaugeMetricFamily(name, text, labels=labels)
    for key, value in sorted(values):
        family.add_metric(key, value)
    return family


def _single(values: Mapping[str, float]) -> Iterator[tuple[tuple[str], float]]:
    """Yield the values of a family with one label."""
    yield from (((key,), value) for key, value in values.items())


@routes.get("/metrics")
def metrics() -> Response:
    """Tell Prometheus how the cluster is."""
    return Response(
        generate_latest(Measurements(site().services.get(ClusterMetrics).read())), content_type=CONTENT_TYPE_LATEST
    )
