"""The servers that other tests rely on do what their documentation says."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import redis
from kombu import Connection
from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter as GrpcExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter as HttpExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor

from services.certificates import Certificates
from services.otlp import Link, Moment, OtlpReceiver, summary
from services.process import Process
from services.rabbitmq import RabbitMQ
from services.redis import Redis
from services.sentinel import SERVICE_NAME, Sentinel
from services.waiting import eventually
from services.worker import Worker

HANGING = """
import signal, time
def hang_here(*_):
    time.sleep(60)
signal.signal(signal.SIGTERM, hang_here)
print("up", flush=True)
time.sleep(60)
"""


def test_a_program_that_does_not_end_says_where_it_hangs(tmp_path: Path) -> None:
    """A failure that is seldom is explained the first time."""
    with Process("hanging", [sys.executable, "-c", HANGING], tmp_path) as hanging:
        hanging.wait_output("up")
        with pytest.raises(subprocess.TimeoutExpired):
            hanging.terminate(0.1)
        assert "in hang_here" in hanging.output


def test_redis_keeps_its_port_over_a_restart(redis_server: Redis) -> None:
    """A killed Redis comes back where it was, with nothing in it."""
    with redis_server.client() as client:
        client.set("key", "value")
        redis_server.kill()
        with pytest.raises(redis.ConnectionError):
            client.ping()
        redis_server.start()
        assert client.get("key") is None


def test_a_paused_redis_keeps_connections_and_does_not_answer(redis_server: Redis) -> None:
    """A stalled peer is one that sends nothing, not even an end."""
    with redis.Redis.from_url(redis_server.url, socket_timeout=0.2) as client:
        client.ping()
        redis_server.pause()
        with pytest.raises(redis.TimeoutError):
            client.ping()
        redis_server.resume()
        assert client.ping()


def test_redis_demands_its_password_over_tls(start_redis: Callable[..., Redis], certificates: Certificates) -> None:
    """The URL of a protected Redis carries all that kombu needs."""
    server = start_redis(password="secret", tls=certificates)
    with Connection(server.url) as connection:
        connection.ensure_connection(max_retries=1)
    with (
        redis.Redis.from_url(server.url.replace("secret", "guess")) as client,
        pytest.raises(redis.AuthenticationError),
    ):
        client.ping()


def test_sentinel_promotes_the_replica(redis_sentinel: Sentinel) -> None:
    """When the master is gone, kombu's URL leads to the former replica."""
    redis_sentinel.master.kill()
    with redis.Redis(port=redis_sentinel.port) as client:
        eventually(
            lambda: client.sentinel_get_master_addr_by_name(SERVICE_NAME)[1] == redis_sentinel.replica.port,
        )
    with Connection(redis_sentinel.url, transport_options=redis_sentinel.transport_options) as connection:
        connection.ensure_connection(max_retries=1)


def test_rabbitmq_comes_back_after_a_stop(rabbitmq_server: RabbitMQ, rabbitmq_url: str) -> None:
    """A stopped RabbitMQ refuses connections, and keeps its virtual hosts."""
    rabbitmq_server.stop()
    with Connection(rabbitmq_url) as connection, pytest.raises(ConnectionRefusedError):
        connection.connect()
    rabbitmq_server.start()
    with Connection(rabbitmq_url) as connection:
        connection.connect()


@pytest.mark.parametrize("pool", ["solo", "prefork", "threads"])
def test_a_worker_is_ready_when_its_fixture_returns(
    redis_server: Redis, celery_worker: Callable[..., Worker], pool: str
) -> None:
    """A worker runs what is sent to it, and ends when asked to."""
    worker = celery_worker(redis_server.url, pool=pool)
    task_id = worker.send("add", 1, 2)
    worker.wait_output(f"[{task_id}] succeeded")
    assert worker.terminate() == 0


def test_a_worker_speaks_amqp(rabbitmq_url: str, celery_worker: Callable[..., Worker]) -> None:
    """A worker on RabbitMQ runs what is sent to its queues."""
    worker = celery_worker(rabbitmq_url, queues=("fast", "slow"))
    task_id = worker.send("fail", queue="slow")
    worker.wait_output(f"[{task_id}] raised unexpected: ValueError")


@pytest.mark.parametrize("protocol", ["http/protobuf", "grpc"])
def test_the_receiver_of_otlp_keeps_what_the_sdk_sends(otlp: OtlpReceiver, protocol: str) -> None:
    """Ids, times, attributes, links, events, status, resource and scope."""
    exporter = GrpcExporter(endpoint=otlp.grpc_url) if protocol == "grpc" else HttpExporter(f"{otlp.url}/v1/traces")
    provider = TracerProvider(resource=Resource({"service.name": "shop"}))
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    tracer = provider.get_tracer("till")

    with tracer.start_as_current_span("first") as first:
        pass
    linked = [trace.Link(first.get_span_context(), {"why": "before"})]
    with tracer.start_as_current_span("second", kind=trace.SpanKind.CONSUMER, links=linked) as second:
        second.set_attributes({"n": 1, "names": ["a", "b"]})
        second.add_event("paid", {"by": "card"}, timestamp=2_500_000_000)
        second.set_status(trace.StatusCode.ERROR, "no")
    provider.shutdown()

    one, two = otlp.spans
    assert summary([one, two]) == {("first", "internal"): 1, ("second", "consumer"): 1}
    assert two.links == (Link(one.trace, one.id, {"why": "before"}),)
    assert two.events == (Moment("paid", 2.5, {"by": "card"}),)
    assert (two.attributes, two.status, two.message) == ({"n": 1, "names": ["a", "b"]}, "error", "no")
    assert (two.parent, two.scope, two.resource) == ("", "till", {"service.name": "shop"})
    assert two.id == f"{second.get_span_context().span_id:016x}"
    assert one.start <= one.end <= two.start <= two.end
