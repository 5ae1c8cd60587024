"""What Prometheus scrapes from an endpoint: requests, errors, latency and rows per variant, and which models are served.

Counting costs a request well under a microsecond: plain numbers here, made into Prometheus's text only when somebody asks.
They begin at zero with the serving process, as Prometheus's counters may. Where several processes of this machine serve, each shows the
sums of all (sums.py), and what each of them takes by its pid.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.registry import Collector
from prometheus_client.samples import Sample

from jupyter_mlp.serving.sums import Counted, Key, Series, Sums, total

CONTENT_TYPE = CONTENT_TYPE_PLAIN_0_0_4.encode()
BUCKETS_S = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_LABELS = ("endpoint", "model", "shadow")


class Metrics(Collector):
    """Counts the requests of one endpoint.

    Args:
        sums: where this process is one of several.
    """

    def __init__(self, endpoint: str, sums: Sums | None = None) -> None:
        self._endpoint = endpoint
        self._sums = sums
        self._series: dict[Key, Series] = {}
        self._variants: Sequence[Mapping[str, Any]] = ()
        self._generation = 0
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(self)
        self._takes = ProcessCollector(registry=None if sums else self._registry)  # memory, processor time, open files

    def add(self, model: str, status: int, seconds: float, rows: int = 0, shadow: bool = False) -> None:
        """Count a request; `model` is empty where none answered."""
        one = self._series.get((model, shadow))
        if one is None:
            one = self._series[model, shadow] = Series([0] * (len(BUCKETS_S) + 1))
        one.statuses[status] = one.statuses.get(status, 0) + 1
        one.buckets[bisect_left(BUCKETS_S, seconds)] += 1
        one.seconds += seconds
        one.rows += rows

    def share(self) -> None:
        """Let the other processes of the endpoint, where there are some, see what was counted here."""
        if self._sums is not None:
            self._sums.write(self._series, {one.name: one.value for metric in self._takes.collect() for one in metric.samples})

    def text(self, generation: int, variants: Sequence[Mapping[str, Any]]) -> bytes:
        """Return all numbers in Prometheus's text format.

        Args:
            variants: what is served now: {"model", "weight", "shadow", "name", "task"}.
        """
        self._generation, self._variants = generation, variants
        self.share()
        return generate_latest(self._registry)

    def collect(self) -> Iterable[Metric]:
        """Give the library the numbers as they are now."""
        requests = CounterMetricFamily("mlp_requests", "Requests by variant and HTTP status.", labels=[*_LABELS, "status"])
        errors = CounterMetricFamily("mlp_request_errors", "Requests refused (4xx) or failed (5xx).", labels=_LABELS)
        rows = CounterMetricFamily("mlp_rows", "Rows answered.", labels=_LABELS)
        seconds = HistogramMetricFamily("mlp_request_duration_seconds", "From the request to its answer.", labels=_LABELS)
        counted = self._sums.all() if self._sums else []
        for (model, shadow), one in (total(counted) if self._sums else self._series).items():
            labels = [self._endpoint, model, str(shadow).lower()]
            for status, count in sorted(one.statuses.items()):
                requests.add_metric([*labels, str(status)], count)
            errors.add_metric(labels, sum(count for status, count in one.statuses.items() if status >= 400))
            rows.add_metric(labels, one.rows)
            seconds.add_metric(labels, _upto(one.buckets), one.seconds)
        return [requests, errors, rows, seconds, *self._served(), *self._taken(counted)]

    def _taken(self, counted: Sequence[Counted]) -> Iterable[Metric]:
        alive = [one for one in counted if one.is_alive]
        for metric in self._takes.collect() if alive else ():
            names = [sample.name for sample in metric.samples]
            metric.samples = [Sample(name, {"pid": str(one.pid)}, one.gauges[name]) for name in names for one in alive]
            yield metric

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
