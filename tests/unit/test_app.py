"""What a Celery app's configuration says of its broker."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from celery import Celery
from kombu import Queue

from celery_observe.app import celery_app, load_app, with_app
from celery_observe.broker import BrokerSettings
from celery_observe.errors import AppError, SettingsError
from celery_observe.settings import Settings, load


def app_with(**conf: Any) -> Celery:
    """Return an app of this configuration."""
    app = Celery("shop", set_as_current=False, fixups=[])
    app.conf.update({"broker_url": "redis://:pw@h:1/2"} | conf)
    return app


def observed(app: Celery, **flags: Any) -> BrokerSettings:
    """Return the only broker to observe for an app."""
    (broker,) = with_app(load({"app": "shop"} | flags, {}), app).brokers
    return broker


def test_the_app_says_all_that_is_to_be_known_of_its_broker() -> None:
    """What workers use is what we use."""
    app = app_with(
        broker_transport_options={"global_keyprefix": "x-", "sep": "|", "fanout_patterns": False},
        broker_use_ssl={"ssl_ca_certs": "/ca"},
        accept_content=["json", "yaml", "pickle"],
        event_exchange="events",
        event_queue_prefix="ev",
        event_queue_ttl=9.0,
        event_queue_expires=8.0,
        event_queue_exclusive=False,
        event_queue_durable=True,
        control_exchange="ctl",
        task_default_queue="shop",
        task_queues=[Queue("shop"), Queue("mail")],
        broker_connection_timeout=2,
    )

    broker = observed(app)

    assert broker == BrokerSettings(
        url="redis://:pw@h:1/2",
        transport_options={"global_keyprefix": "x-", "sep": "|", "fanout_patterns": False},
        use_ssl={"ssl_ca_certs": "/ca"},
        accept_content=("json", "yaml"),
        event_exchange="events",
        event_queue_prefix="ev",
        event_queue_ttl=9.0,
        event_queue_expires=8.0,
        event_queue_exclusive=False,
        event_queue_durable=True,
        control_exchange="ctl",
        connection_timeout=2,
        default_queue="shop",
        queues=("shop", "mail"),
        app=app,
    )
    assert "'redis://:***@h:1/2'" in repr(broker)


def test_the_url_that_workers_read_from_counts() -> None:
    """Publishers may have another."""
    assert observed(app_with(broker_read_url="redis://read")).url == "redis://read"


@pytest.mark.parametrize(
    ("conf", "url"),
    [
        ({"broker_url": ["amqp://a", "amqp://b"]}, "amqp://a;amqp://b"),
        ({"broker_url": None}, "amqp://guest:guest@localhost:5672//"),
        ({"broker_url": "amqp://h", "broker_user": "u", "broker_password": "p"}, "amqp://u:p@h:5672//"),
    ],
)
def test_a_url_in_parts_or_with_alternates_is_made_one(conf: dict[str, Any], url: str) -> None:
    """As Celery would connect."""
    assert observed(app_with(**conf)).url == url


def test_what_is_set_here_goes_before_what_the_app_says() -> None:
    """Options are added to the app's; a broker of other options is not the app's any more."""
    app = app_with(event_exchange="events", event_queue_prefix="ev", broker_transport_options={"a": 1, "b": 1})

    broker = observed(app, event_exchange="mine", transport_option=("b=2",), accept_content=("pickle",))

    assert (broker.event_exchange, broker.event_queue_prefix) == ("mine", "ev")
    assert broker.transport_options == {"a": 1, "b": 2}
    assert broker.accept_content == ("pickle",)
    assert broker.app is None


def test_brokers_beside_an_app_replace_its_url_and_keep_the_rest() -> None:
    """As `celery --broker` does, for each of several."""
    app = app_with(event_exchange="events")

    first, second = with_app(load({"app": "shop", "broker": ("a=redis://a", "b=redis://b")}, {}), app).brokers

    assert (first.name, first.url, first.event_exchange, first.app) == ("a", "redis://a", "events", None)
    assert (second.name, second.url) == ("b", "redis://b")


@pytest.mark.parametrize(
    ("routes", "task_queue", "default"),
    [
        (None, {}, "celery"),
        ({"a.*": {"queue": "wide"}, "a.b": "exact"}, {"a.b": "exact", "a.*": "wide"}, "celery"),
        (([("a", {"queue": Queue("qa")})],), {"a": "qa"}, "celery"),
        (({"a": "qa"}, lambda *_: None, {"b": "qb"}), {"a": "qa"}, None),
        ({"a": {"exchange": "x", "routing_key": "y"}}, {}, None),
        ("shop.Router", {}, None),
    ],
)
def test_routes_that_can_be_known_tell_the_queue_of_a_task(
    routes: Any, task_queue: dict[str, str], default: str | None
) -> None:
    """Exact names first; where a function decides, neither later routes nor the default queue are certain."""
    broker = observed(app_with(task_routes=routes))

    assert list(broker.task_queue.items()) == list(task_queue.items())
    assert broker.default_queue == default


def test_rules_given_here_go_before_the_routes_of_the_app() -> None:
    """They are matched first."""
    broker = observed(app_with(task_routes={"a": "x", "b": "y"}), task_queue=("b=z",))

    assert list(broker.task_queue.items()) == [("b", "z"), ("a", "x")]


def test_an_app_of_an_unusable_broker_is_refused_masked() -> None:
    """Unless another broker is given."""
    app = app_with(broker_url="nope://:hunter2@h")

    with pytest.raises(SettingsError, match=r"broker_url of the Celery app: 'nope://:\*\*\*@h'"):
        observed(app)
    assert observed(app, broker=("redis://h",)).url == "redis://h"


def test_workers_are_asked_through_the_users_own_app() -> None:
    """When it is there and talks to that broker."""
    app = app_with()

    assert celery_app(observed(app)) is app


def test_workers_are_asked_through_an_app_of_ours_without_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """It keeps to its broker, even where Celery's own variable names another."""
    monkeypatch.setenv("CELERY_BROKER_URL", "redis://elsewhere")
    broker = BrokerSettings(
        url="redis://:pw@here:1/2", transport_options={"sep": "|"}, control_exchange="ctl", use_ssl=True
    )

    app = celery_app(broker)

    for connection in (app.connection_for_write(), app.connection_for_read(), app.pool.connection):
        assert connection.as_uri(include_password=True) == "redis://:pw@here:1/2"
        assert connection.transport_options["sep"] == "|"
        assert connection.ssl
    assert app.control.mailbox.namespace == "ctl"


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (None, "ModuleNotFoundError: No module named"),
        ("import nonsense_of_the_user", "ModuleNotFoundError: No module named 'nonsense_of_the_user'"),
        ("x = {}['DATABASE_URL']", r"KeyError: 'DATABASE_URL' \(.*broken.py:1\)"),
        ("raise ValueError('redis://:hunter2@h')", r"ValueError: .*redis://:\*\*\*@h"),
        ("def", "SyntaxError"),
        ("app = 7", "is a int, no Celery app"),
        ("", "AttributeError"),
    ],
)
def test_an_app_that_cannot_be_loaded_is_refused_with_the_reason_and_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str | None, message: str
) -> None:
    """One line instead of a traceback."""
    name = f"{tmp_path.name.replace('-', '_')}_broken"
    if source is not None:
        (tmp_path / f"{name}.py").write_text(source, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)

    with pytest.raises(AppError, match=message) as refused:
        load_app(name)

    assert f"--app {name}" in str(refused.value)


def test_an_app_is_found_by_module_and_attribute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As Celery finds it."""
    (tmp_path / "findable.py").write_text(
        "from celery import Celery\nmine = Celery('mine', set_as_current=False)\n", encoding="utf-8"
    )
    monkeypatch.syspath_prepend(tmp_path)

    assert load_app("findable").main == "mine"
    assert load_app("findable:mine").main == "mine"


def test_a_configuration_that_cannot_be_read_is_refused() -> None:
    """Celery reads it late, at the first look."""
    app = Celery("shop", config_source="no_such_module_of_settings", set_as_current=False)

    with pytest.raises(AppError, match="configuration of the Celery app cannot be read"):
        with_app(Settings(app="shop"), app)
