"""What the server counts, for Prometheus. Labels have few values, whatever is sent."""
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest

_SECONDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30)
_IMAGES = (1, 2, 4, 8, 16, 32, 64, 128)


class Metrics:
    """Counters of one server."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        ProcessCollector(registry=self._registry)
        self._requests = Counter("vit_requests", "Requests for a prediction, by the status of the answer.", ["status"],
                                 registry=self._registry)
        self._seconds = Histogram("vit_request_seconds", "From a request's header to its answer.", buckets=_SECONDS,
                                  registry=self._registry)
        self._images = Histogram("vit_batch_images", "Images in a batch.", ["backend"], buckets=_IMAGES,
                                 registry=self._registry)
        self._computing = Histogram("vit_batch_seconds", "What a batch was computed in.", ["backend"],
                                    buckets=_SECONDS, registry=self._registry)
        self.inside = Gauge("vit_requests_inside", "Requests that are read or wait.", registry=self._registry)
        self.count = 0  # of requests for a prediction

    def request(self, status: int, seconds: float) -> None:
        """Count an answer."""
        self.count += 1
        self._requests.labels(status).inc()
        self._seconds.observe(seconds)

    def batch(self, backend: str, images: int, seconds: float) -> None:
        """Count a batch."""
        self._images.labels(backend).observe(images)
        self._computing.labels(backend).observe(seconds)

    def text(self) -> bytes:
        """Give all as Prometheus reads it."""
        return generate_latest(self._registry)
