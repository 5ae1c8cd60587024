"""What Prometheus scrapes from an endpoint: requests, errors, latency and rows per variant, and which models are served.

Counting costs a request well under a microsecond: plain numbers here, made into Prometheus's text only when somebody asks.
They begin at zero with the serving process, as Prometheus's counters may.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.registry import Collector

CONTENT_TYPE = CONTENT_TYPE_PLAIN_0_0_4.encode()
BUCKETS_S = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_LABELS = ("endpoint", "model", "shadow")


class _Series:
    """The numbers of one variant; one slot more than there are buckets, for what took longer."""

    __slots__ = ("buckets", "rows", "seconds", "statuses")

    def __init__(self) -> None:
        self.statuses: dict[int, int] = {}
        self.buckets = [0] * (len(BUCKETS_S) + 1)
        self.seconds = 0.0
        self.rows = 0


class Metrics(Collector):
    """Counts the requests of one endpoint."""

    def __init__(self, endpoint: str) -> None:
        self._endpoint = endpoint
        self._series: dict[tuple[str, bool], _Series] = {}
        self._variants: Sequence[Mapping[str, Any]] = ()
        self._generation = 0
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(self)
        ProcessCollector(registry=self._registry)  # memory, processor time, open files

    def add(self, model: str, status: int, seconds: float, rows: int = 0, shadow: bool = False) -> None:
        """Count a request; `model` is empty where none answered."""
        one = self._series.get((model, shadow))
        if one is None:
            one = self._series[model, shadow] = _Series()
        one.statuses[status] = one.statuses.get(status, 0) + 1
        one.buckets[bisect_left(BUCKETS_S, seconds)] += 1
        one.seconds += seconds
        one.rows += rows

    def text(self, generation: int, variants: Sequence[Mapping[str, Any]]) -> bytes:
        """Return all numbers in Prometheus's text format.

        Args:
            variants: what is served now: {"model", "weight", "shadow", "name", "task"}.
        """
        self._generation, self._variants = generation, variants
        return generate_latest(self._registry)

    def collect(self) -> Iterable[Metric]:
        """Give the library the numbers as they are now."""
        requests = CounterMetricFamily("mlp_requests", "Requests by variant and HTTP status.", labels=[*_LABELS, "status"])
        errors = CounterMetricFamily("mlp_request_errors", "Requests refused (4xx) or failed (5xx).", labels=_LABELS)
        rows = CounterMetricFamily("mlp_rows", "Rows answered.", labels=_LABELS)
        seconds = HistogramMetricFamily("mlp_request_duration_seconds", "From the request to its answer.", labels=_LABELS)
        for (model, shadow), one in list(self._series.items()):
            labels = [self._endpoint, model, str(shadow).lower()]
            for status, count in sorted(one.statuses.items()):
                requests.add_metric([*labels, str(status)], count)
            errors.add_metric(labels, sum(count for status, count in one.statuses.items() if status >= 400))
            rows.add_metric(labels, one.rows)
            seconds.add_metric(labels, _upto(one.buckets), one.seconds)
        return [requests, errors, rows, seconds, *self._served()]

    def _served(self) -> Iterable[Metric]:
        info = GaugeMetricFamily("mlp_model_info", "A model that is served; always 1.", labels=[*_LABELS, "name", "task"])
        weight = GaugeMetricFamily("mlp_variant_weight_percent", "Its share of the requests.", labels=["endpoint", "model"])
        generation = GaugeMetricFamily("mlp_generation", "Rises with every swap.", labels=["endpoint"])
        ready = GaugeMetricFamily("mlp_ready", "Whether a model is loaded.", labels=["endpoint"])
        for one in self._variants:
            labels = [self._endpoint, one["model"], str(one["shadow"]).lower()]
            info.add_metric([*labels, str(one["name"]), str(one["task"])], 1)
            weight.add_metric(labels[:2], one["weight"])
        generation.add_metric([self._endpoint], self._generation)
        ready.add_metric([self._endpoint], int(bool(self._variants)))
        return [info, weight, generation, ready]


def _upto(buckets: Sequence[int]) -> list[tuple[str, float]]:
    """Prometheus's buckets hold what took so long or less."""
    found, total = [], 0
    for edge, count in zip([*map(repr, BUCKETS_S), "+Inf"], buckets, strict=True):
        total += count
        found.append((edge, float(total)))
    return found
