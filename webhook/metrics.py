"""``/metrics``, for Prometheus: every process reports the same numbers, because they are read from Redis."""

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
from webhook.site import backend

routes = Blueprint("metrics", __name__)


class Counted(NamedTuple):
    """A counter: its field in ``MetricsSnapshot.counts``, and its name, help and labels."""

    field: str
    name: str
    help: str
    labels: tuple[str, ...]


#: The order of the labels is that of the field.
COUNTED = (
    Counted("made", "datafab_jobs_made", "Jobs that were accepted.", ("flow",)),
    Counted("ended", "datafab_jobs_ended", "Jobs that have ended; a parked one may end again.", ("state", "flow")),
    Counted("items", "datafab_items", "Items that a stage has processed, by their status.", ("stage", "status")),
    Counted("bytes", "datafab_bytes", "Bytes of the resources of these items.", ("stage", "status")),
    Counted(
        "attempts",
        "datafab_attempts",
        "Attempts at a batch: ended, waited, died or stopped with their process, or lost with a process of threads.",
        ("stage", "outcome"),
    ),
    Counted("stale", "datafab_stale_copies", "Copies of tasks that were dropped.", ("stage",)),
    Counted("sent_again", "datafab_sent_again", "Tasks that the tick sent, by what their row was before.", ("state",)),
)


class Measurements(Collector):
    """The measured numbers as metrics of Prometheus."""

    def __init__(self, measured: MetricsSnapshot) -> None:
        self._measured = measured

    def collect(self) -> Iterable[Metric]:
        """Yield every metric, including those without values."""
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
        yield _gauge("datafab_parked_jobs", "Parked jobs, which `datafab jobs retry` runs again.", (), parked)
        yield _gauge("datafab_ledger_rows", "Tasks that wait or are to run.", ("state",), _single(now.rows))
        text = "Jobs that wait until others of their caller have ended."
        yield _gauge("datafab_limited_jobs", text, ("caller",), _single(now.limited))
        lag = [((), now.overdue)]
        yield _gauge("datafab_overdue_seconds", "Seconds since the first due task became due: the tick's lag.", (), lag)
        queues = _single(now.queues)
        yield _gauge("datafab_queue_messages", "Messages that no worker has fetched.", ("queue",), queues)
        held = [((), now.unacknowledged)]
        yield _gauge("datafab_unacknowledged_messages", "Messages that a worker has fetched and holds.", (), held)

    def _durations(self) -> Metric:
        """Return the durations of ended attempts."""
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
    """Yield the values of a metric with one label."""
    yield from (((key,), value) for key, value in values.items())


@routes.get("/metrics")
def metrics() -> Response:
    """Return the cluster's metrics for Prometheus."""
    return Response(
        generate_latest(Measurements(backend().services.get(ClusterMetrics).read())), content_type=CONTENT_TYPE_LATEST
    )
