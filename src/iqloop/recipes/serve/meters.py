"""What the server counts, for Prometheus; each application has its own registry."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info, ProcessCollector, generate_latest

import iqloop

if TYPE_CHECKING:
    from iqloop.critic.protocol import Critic

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)
"""Upper ends of the latency histogram's buckets."""
BATCHES = (1, 2, 4, 8, 16, 32, 64)
OTHER = "other"
"""The route of every path that there is none for: paths are anyone's choice, and each label costs memory."""


class Meters:
    """Counters of one server."""

    def __init__(self, critic: Critic, routes: frozenset[str], waiting: Mapping[str, Callable[[], int]]) -> None:
        """``waiting`` says of each kind of question how many requests wait for it."""
        self.registry = CollectorRegistry()
        self.routes = routes
        registry = self.registry
        ProcessCollector(registry=registry)
        self._requests = Counter("iqloop_requests", "Requests answered.", ["route", "status"], registry=registry)
        self._seconds = Histogram(
            "iqloop_request_seconds", "Arrival to answer.", ["route"], buckets=SECONDS, registry=registry
        )
        self.in_flight = Gauge("iqloop_requests_in_flight", "Requests being read or answered.", registry=registry)
        self._batches = Histogram(
            "iqloop_batch_images", "Requests in one question.", ["kind"], buckets=BATCHES, registry=registry
        )
        self._images = Counter("iqloop_images", "Image files received.", ["route"], registry=registry)
        depth = Gauge("iqloop_queue_depth", "Requests that wait to be decoded.", ["kind"], registry=registry)
        for kind, count in waiting.items():
            depth.labels(kind).set_function(count)
        about = {"name": critic.name, "version": critic.version, "iqloop": iqloop.__version__}
        Info("iqloop_critic", "Who judges.", registry=registry).info(about)

    def answered(self, path: str, status: int, seconds: float) -> None:
        """One request is over."""
        route = self.route(path)
        self._requests.labels(route, str(status)).inc()
        self._seconds.labels(route).observe(seconds)

    def received(self, path: str, images: int) -> None:
        """Image files of one request."""
        self._images.labels(self.route(path)).inc(images)

    def batch(self, kind: str, size: int) -> None:
        """One question to the critic."""
        self._batches.labels(kind).observe(size)

    def route(self, path: str) -> str:
        """The label of a path."""
        return path if path in self.routes else OTHER

    def text(self) -> bytes:
        """Everything, in Prometheus's text format."""
        return generate_latest(self.registry)
