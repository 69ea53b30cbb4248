"""What every sink promises, against a real server: it delivers, or says why not; it never hangs and never leaks.

A sink is found by its file; one of which no example stands here fails the first test.
"""

from __future__ import annotations

import pkgutil
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from celery_observe import sinks
from celery_observe.errors import SettingsError, SinkError, SinkRefusedError
from celery_observe.fact import Detail
from celery_observe.hooks import Alert, Message, Status
from celery_observe.hooks.alert import fingerprint
from celery_observe.sinks import Sink, sink_for, sink_types
from celery_observe.sinks.webhook import signature
from services.certificates import Certificates
from services.ports import LOOPBACK, free_port
from services.receiver import Delivery, Receiver

pytestmark = pytest.mark.filterwarnings("ignore:'imghdr' is deprecated")  # Apprise asks for it while it is there

SECRET = "hunter2"

# How each sink is told where to send, and what it answers where a server refuses for good: Apprise does not tell.
EXAMPLES: dict[str, Callable[[str], dict[str, Any]]] = {
    "alertmanager": lambda url: {"url": f"{url}/{SECRET}", "timeout": 0.5},
    "apprise": lambda url: {"url": f"{url.replace('http', 'json', 1)}/{SECRET}?cto=0.5&rto=0.5"},
    "pagerduty": lambda url: {"url": f"{url}/{SECRET}", "routing_key": "R" * 32, "timeout": 0.5},
    "slack": lambda url: {"url": f"{url}/{SECRET}", "timeout": 0.5},
    "webhook": lambda url: {"url": f"{url}/{SECRET}", "timeout": 0.5},
}
REFUSALS = {name: SinkError if name == "apprise" else SinkRefusedError for name in EXAMPLES}

every_sink = pytest.mark.parametrize("kind", sorted(EXAMPLES))


def alert(task: str = "payments.charge", status: Status = Status.FIRING, **fields: Any) -> Alert:
    """Return an alert about a task."""
    labels = {"task": task, "queue": "pay"}
    given: dict[str, Any] = {
        "severity": "critical",
        "summary": f"{task} failed: <KeyError> & more",
        "links": {"Flower": "https://flower/task/1?a=b&c=d"},
        "count": 3,
        "detail": Detail("id-1", 2, 'File "/app/tasks.py", line 7, in charge'),
    }
    times: dict[str, Any] = {"starts_at": 1.7e9, "last_at": 1.7e9 + 5, "ends_at": 1.7e9 + 305}
    known: dict[str, Any] = {
        "rule": "charge",
        "status": status,
        "labels": labels,
        "fingerprint": fingerprint("charge", labels),
    }
    return Alert(**known, **times, **(given | fields))


def message(*alerts: Alert, **fields: Any) -> Message:
    """Return a message about alerts."""
    return Message(rule="charge", alerts=alerts or (alert(),), **fields)


def made(kind: str, url: str, **options: Any) -> Sink:
    """Return a sink of this kind that sends to a server."""
    return sink_for("mine", {"type": kind, **EXAMPLES[kind](url), **options}, "--alert-sink")


@pytest.fixture
def receiver() -> Iterator[Callable[..., Receiver]]:
    """Start servers that answer as they are told."""
    with ExitStack() as stack:
        yield lambda *answers, **options: stack.enter_context(Receiver(*answers, **options))


def test_every_sink_has_an_example_here() -> None:
    """So that none is without these tests."""
    assert set(sink_types()) == set(EXAMPLES)


@every_sink
def test_a_message_is_delivered(kind: str, receiver: Callable[..., Receiver]) -> None:
    """Once, and with what is wrong."""
    server = receiver()

    made(kind, server.url).deliver(message())

    (delivery,) = server.deliveries
    assert delivery.headers["content-type"].startswith("application/json")
    assert b"payments.charge" in delivery.body
    assert b"line 7, in charge" in delivery.body


@every_sink
@pytest.mark.parametrize("status", [500, 502, 503, 429, 408])
def test_what_may_pass_is_worth_another_try(kind: str, status: int, receiver: Callable[..., Receiver]) -> None:
    """Errors of the server, and its word that there were too many."""
    with pytest.raises(SinkError) as failed:
        made(kind, receiver(status).url).deliver(message())

    assert not isinstance(failed.value, SinkRefusedError)
    assert SECRET not in str(failed.value)


@every_sink
@pytest.mark.parametrize("status", [400, 401, 403, 404, 410, 422])
def test_what_is_refused_is_refused_for_good(kind: str, status: int, receiver: Callable[..., Receiver]) -> None:
    """Wrong keys and wrong paths do not get better."""
    with pytest.raises(REFUSALS[kind]) as failed:
        made(kind, receiver(status).url).deliver(message())

    assert SECRET not in str(failed.value)


@every_sink
def test_a_redirect_is_not_followed(kind: str, receiver: Callable[..., Receiver]) -> None:
    """A POST would arrive as a GET, and seem delivered."""
    target = receiver()

    with pytest.raises(SinkError):
        made(kind, receiver(302, headers={"Location": target.url}).url).deliver(message())

    assert not [each for each in target.deliveries if each.body]


@every_sink
@pytest.mark.parametrize("answer", ["hang", "reset", "garbage"])
def test_a_server_that_breaks_off_is_an_error_in_time(
    kind: str, answer: str, receiver: Callable[..., Receiver]
) -> None:
    """Within the timeout, here of half a second."""
    started = time.monotonic()

    with pytest.raises(SinkError) as failed:
        made(kind, receiver(answer).url).deliver(message())

    assert time.monotonic() - started < 5
    assert SECRET not in str(failed.value)


@every_sink
def test_a_server_that_is_not_there_is_an_error(kind: str) -> None:
    """Its address is named, its path is not: that may be a password."""
    with pytest.raises(SinkError) as failed:
        made(kind, f"http://{LOOPBACK}:{free_port()}").deliver(message())

    assert SECRET not in str(failed.value)


@every_sink
def test_a_certificate_is_verified(kind: str, receiver: Callable[..., Receiver], certificates: Certificates) -> None:
    """A server that nobody vouches for gets nothing."""
    server = receiver(tls=certificates)

    with pytest.raises(SinkError):
        made(kind, server.url).deliver(message())

    assert not server.deliveries


@pytest.mark.parametrize("kind", sorted(set(EXAMPLES) - {"apprise"}))
def test_a_private_authority_can_be_trusted(
    kind: str, receiver: Callable[..., Receiver], certificates: Certificates
) -> None:
    """By its certificate in a file."""
    server = receiver(tls=certificates)

    made(kind, server.url, ca_file=str(certificates.authority)).deliver(message())

    assert len(server.deliveries) == 1


@every_sink
def test_a_huge_message_is_delivered(kind: str, receiver: Callable[..., Receiver]) -> None:
    """A thousand alerts of one rule, or what the receiver takes of them."""
    server = receiver()
    detail = Detail("id", 0, "x" * 4000, "y" * 1000, "z" * 1000)

    made(kind, server.url).deliver(message(*(alert(f"t{number}", detail=detail) for number in range(50)), more=950))

    assert server.deliveries


@every_sink
@pytest.mark.parametrize("status", list(Status))
def test_an_end_is_told_too(kind: str, status: Status, receiver: Callable[..., Receiver]) -> None:
    """And told from a beginning."""
    server = receiver()

    made(kind, server.url).deliver(message(alert(status=status)))

    body = server.deliveries[0].body
    if kind != "alertmanager":  # there the time at which it ends says it
        assert (b"resolve" in body) == (status is Status.RESOLVED)


@every_sink
def test_options_that_are_wrong_are_refused_with_the_fix(kind: str) -> None:
    """Values are not shown: they may be secrets."""
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"urll": SECRET}, "Did you mean url?"),
        ({"url": 7}, "url"),
        ({"url": f"{SECRET}"}, "url: "),
        ({"url_file": "/does/not/exist"}, "Create it first"),
    ]
    for options, said in wrong:
        with pytest.raises(SettingsError) as refused:
            sink_for("mine", {"type": kind, **EXAMPLES[kind]("http://h"), **options}, "--alert-sink")
        assert str(refused.value).startswith("--alert-sink, sink mine: ")
        assert said in str(refused.value)
        assert SECRET not in str(refused.value)


@every_sink
def test_a_sink_does_not_show_its_secrets(kind: str) -> None:
    """In logs, for example."""
    sink = made(kind, "http://user:hunter2@localhost:1")

    assert SECRET not in repr(sink)
    assert "RRRR" not in repr(sink)


def test_an_unknown_type_is_refused() -> None:
    """And a table that is none."""
    with pytest.raises(SettingsError, match=r"there is no type 'pigeon'\. Give one of alertmanager, apprise"):
        sink_for("pigeon", "http://h", "o")
    with pytest.raises(SettingsError, match=r"sink slack: got \*\*\*"):
        sink_for("slack", 7, "o")


def test_a_secret_may_stand_in_a_file(tmp_path: Any, receiver: Callable[..., Receiver]) -> None:
    """As Kubernetes mounts them."""
    server = receiver()
    (tmp_path / "url").write_text(f"{server.url}/{SECRET}\n")

    sink_for("slack", {"url_file": str(tmp_path / "url")}, "o").deliver(message())

    assert server.deliveries[0].path == f"/{SECRET}"


def test_a_login_in_the_url_and_a_token_are_sent_as_headers(receiver: Callable[..., Receiver]) -> None:
    """As `Authorization`, which headers of one's own may replace."""
    server = receiver()
    url = server.url.replace("http://", "http://us%40er:hunter2@")

    sink_for("webhook", url, "o").deliver(message())
    sink_for("webhook", {"url": server.url, "bearer_token": "t"}, "o").deliver(message())
    sink_for("webhook", {"url": server.url, "headers": {"Authorization": "mine"}}, "o").deliver(message())

    given = [each.headers["authorization"] for each in server.deliveries]
    assert given == ["Basic dXNAZXI6aHVudGVyMg==", "Bearer t", "mine"]


def only(receiver: Receiver) -> Delivery:
    """Return the one request."""
    (delivery,) = receiver.deliveries
    return delivery


def test_alertmanager_gets_labels_annotations_and_times(receiver: Callable[..., Receiver]) -> None:
    """As its API v2 wants them; it forgets what is not repeated."""
    server = receiver()
    sink = made("alertmanager", server.url)

    sink.deliver(message(more=4))

    assert only(server).path == f"/{SECRET}/api/v2/alerts"
    (posted,) = only(server).json
    assert posted["labels"] == {
        "alertname": "charge",
        "severity": "critical",
        "task": "payments.charge",
        "queue": "pay",
    }
    assert (posted["startsAt"], posted["endsAt"]) == ("2023-11-14T22:13:20+00:00", "2023-11-14T22:18:25+00:00")
    assert posted["annotations"]["flower_url"].startswith("https://flower")
    assert posted["annotations"]["task_id"] == "id-1"
    assert posted["annotations"]["more"] == "and 4 more alerts of this rule"
    assert sink.forgets


def test_pagerduty_gets_an_event_for_each_alert(receiver: Callable[..., Receiver]) -> None:
    """With a key by which the same incident is resolved."""
    server = receiver(202)
    sink = made("pagerduty", server.url)

    sink.deliver(message(alert("a"), alert("b", severity="warning")))
    sink.deliver(message(alert("a", status=Status.RESOLVED)))

    first, second, third = (each.json for each in server.deliveries)
    assert (first["event_action"], first["payload"]["severity"]) == ("trigger", "critical")
    assert first["payload"]["timestamp"] == "2023-11-14T22:13:20+00:00"
    assert first["links"] == [{"href": "https://flower/task/1?a=b&c=d", "text": "Flower"}]
    assert second["dedup_key"] != first["dedup_key"]
    assert third == {"routing_key": "R" * 32, "dedup_key": first["dedup_key"], "event_action": "resolve"}


def test_an_alert_that_pagerduty_refuses_does_not_keep_back_others(receiver: Callable[..., Receiver]) -> None:
    """Each is an event of its own."""
    server = receiver(400, 202)

    with pytest.raises(SinkRefusedError):
        made("pagerduty", server.url).deliver(message(alert("a"), alert("b")))

    assert len(server.deliveries) == 2


def test_slack_gets_text_that_cannot_mention_anybody(receiver: Callable[..., Receiver]) -> None:
    """What looks like its markup is escaped."""
    server = receiver()

    made("slack", server.url).deliver(message(alert(summary="<!channel> & ```code```")))

    text = only(server).json["text"]
    assert "<!channel>" not in text
    assert "&lt;!channel&gt; &amp; '''code'''" in text
    assert "<https://flower/task/1?a=b&amp;c=d|Flower>" in text


def test_a_webhook_gets_everything_or_what_its_template_says(receiver: Callable[..., Receiver]) -> None:
    """Values in a template are escaped for JSON."""
    server = receiver()
    template = '{"msg": "$title", "all": "$text", "sev": "$severity", "price": "$$5"}'

    made("webhook", server.url).deliver(message(more=2))
    made("webhook", server.url, template=template).deliver(message(alert(summary='say "hi"\\')))

    full, filled = (each.json for each in server.deliveries)
    assert full["version"] == 1
    assert full["alerts"][0]["detail"]["uuid"] == "id-1"
    assert full["more"] == 2
    assert filled["msg"] == 'say "hi"\\'
    assert (filled["sev"], filled["price"]) == ("critical", "$5")
    assert "\n" in filled["all"]


@every_sink
def test_every_sink_tells_the_trace(kind: str, receiver: Callable[..., Receiver]) -> None:
    """Its id is somewhere in what is sent."""
    server = receiver()

    made(kind, server.url).deliver(message(alert(trace_id="0af7651916cd43dd8448eb211c80319c")))

    assert "0af7651916cd43dd8448eb211c80319c" in str(only(server).json)


def test_a_template_and_annotations_name_the_trace(receiver: Callable[..., Receiver]) -> None:
    """By itself, not only within a text."""
    server, traced = receiver(), message(alert(trace_id="0af7651916cd43dd8448eb211c80319c"))

    made("webhook", server.url, template='{"trace": "$trace_id"}').deliver(traced)
    made("webhook", server.url, template='{"trace": "$trace_id"}').deliver(message())
    made("alertmanager", server.url).deliver(traced)
    made("pagerduty", server.url).deliver(traced)

    filled, empty, posted, event = (each.json for each in server.deliveries)
    assert (filled["trace"], empty["trace"]) == ("0af7651916cd43dd8448eb211c80319c", "")
    assert posted[0]["annotations"]["trace_id"] == "0af7651916cd43dd8448eb211c80319c"
    assert event["payload"]["custom_details"]["trace_id"] == "0af7651916cd43dd8448eb211c80319c"


@pytest.mark.parametrize("secret", ["my secret", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"])
def test_a_webhook_is_signed(secret: str, receiver: Callable[..., Receiver]) -> None:
    """So that its receiver knows by whom, and when."""
    server = receiver()

    made("webhook", server.url, secret=secret).deliver(message())

    headers = only(server).headers
    signed = signature(secret, headers["webhook-id"], headers["webhook-timestamp"], only(server).body)
    assert headers["webhook-signature"] == signed
    assert abs(int(headers["webhook-timestamp"]) - time.time()) < 60


def test_a_signature_is_that_of_the_specification() -> None:
    """The example of Standard Webhooks' own libraries."""
    signed = signature(
        "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "msg_p5jXN8AQM9LWM0D4loKWxJek", "1614265330", b'{"test": 2432232314}'
    )

    assert signed == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"template": "$pod"}, "template: pod is not known. Give $count, $fingerprint"),
        ({"template": "$ 5"}, "a $ that begins no name"),
        ({"secret": "whsec_hunter2!"}, "is not base64"),
        ({"ca_file": "/does/not/exist"}, "ca_file: '/does/not/exist' cannot be read"),
        ({"timeout": 0}, "timeout"),
    ],
)
def test_a_wrong_webhook_is_refused(options: dict[str, Any], said: str) -> None:
    """Before anything happens."""
    with pytest.raises(SettingsError, match=r"sink mine: ") as refused:
        made("webhook", "http://h", **options)

    assert said in str(refused.value)
    assert SECRET not in str(refused.value)


def test_a_server_may_say_when_to_come_back(receiver: Callable[..., Receiver]) -> None:
    """In seconds; a date, or nonsense, is left aside."""
    waits = []
    for text in ("7", "Wed, 21 Oct 2026 07:28:00 GMT", "-1", "99999999"):
        with pytest.raises(SinkError) as failed:
            made("slack", receiver(429, headers={"Retry-After": text}).url).deliver(message())
        waits.append(failed.value.retry_after)

    assert waits == [7.0, 0.0, 0.0, 300.0]


def test_a_new_sink_is_found_by_its_file() -> None:
    """Its type is its file's name."""
    assert set(sink_types()) | {"post"} == {each.name for each in pkgutil.iter_modules(sinks.__path__)}
