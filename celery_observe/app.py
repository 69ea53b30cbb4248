"""The user's Celery app: where it is, what its settings say of its broker, and one to ask workers with."""

from __future__ import annotations

import traceback
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import msgspec
from celery import Celery
from celery.app.utils import find_app

from celery_observe.beat import sole_entries
from celery_observe.broker import BrokerSettings, name_and_url, url_problem
from celery_observe.connection import VerifiedConnection
from celery_observe.errors import AppError, SettingsError
from celery_observe.guard import contained
from celery_observe.masking import mask_text
from celery_observe.settings import Settings
from celery_observe.settings.brokers import use_ssl

_FROM_CONF = (
    "event_exchange",
    "event_queue_prefix",
    "event_queue_ttl",
    "event_queue_expires",
    "event_queue_exclusive",
    "event_queue_durable",
    "control_exchange",
)
_PICKLE = {"pickle", "application/x-python-serialize"}


def load_app(name: str) -> Celery:
    """Import the Celery app that `-A name` means to Celery: MODULE, PACKAGE or MODULE:ATTRIBUTE.

    Raises:
        AppError: there is none, or its import failed; the message says where.
    """
    app = contained(lambda: find_app(name), lambda error: AppError(f"--app {name} cannot be loaded: {_told(error)}"))
    if not isinstance(app, Celery):
        raise AppError(f"--app {name} is a {type(app).__name__}, no Celery app. Give MODULE:ATTRIBUTE.")
    return app


def _told(error: BaseException) -> str:
    """Return an error of the user's code as one line, with the place where it happened unless that is Python."""
    frame = traceback.extract_tb(error.__traceback__)[-1]
    where = "" if frame.filename.startswith("<") else f" ({frame.filename}:{frame.lineno})"
    said = " ".join(str(error).split())
    return mask_text(f"{type(error).__name__}: {said}{where}.")


def with_app(settings: Settings, app: Celery) -> Settings:
    """Return the settings with `brokers` as the app's configuration says; what was set explicitly goes first.

    A `--broker` replaces the app's broker and keeps all else of the app, as `celery --broker` does.

    Raises:
        SettingsError: the app's configuration cannot be read or its broker URL is unusable.
    """
    base = contained(
        lambda: _of_app(settings, app),
        lambda error: AppError(f"The configuration of the Celery app cannot be read: {_told(error)}"),
    )
    problem = url_problem(base.url)
    if problem and not settings.broker:
        raise SettingsError(f"broker_url of the Celery app: {problem}")
    return msgspec.structs.replace(settings, brokers=tuple(_overridden(settings, base)) or (base,))


def _overridden(settings: Settings, base: BrokerSettings) -> Iterator[BrokerSettings]:
    for name, url in map(name_and_url, settings.broker):
        tls = use_ssl(settings, url) or base.use_ssl
        yield msgspec.structs.replace(base, name=name, url=url, use_ssl=tls, app=None)


def _of_app(settings: Settings, app: Celery) -> BrokerSettings:
    conf, url = app.conf, _url(app)
    tls = use_ssl(settings, url)
    routes, complete = _routes(conf.task_routes)
    stated = {name: getattr(settings, name) for name in _FROM_CONF if name in settings.origins}
    return BrokerSettings(
        url=url,
        transport_options={**conf.broker_transport_options, **settings.transport_option},
        use_ssl=tls or conf.broker_use_ssl or None,
        accept_content=_accepted(settings, conf),
        connection_timeout=conf.broker_connection_timeout,
        login_method=conf.broker_login_method,
        failover_strategy=conf.broker_failover_strategy,
        task_queue=settings.task_queue | {glob: queue for glob, queue in routes if glob not in settings.task_queue},
        default_queue=conf.task_default_queue if complete else None,
        queues=_queues(conf),
        entries=sole_entries(conf.beat_schedule),
        app=None if tls or settings.transport_option else app,
        **{name: conf[name] for name in _FROM_CONF if name in conf} | stated,  # Celery before 5.6 has fewer
    )


def _url(app: Celery) -> str:
    """Return the URL that workers read from, made up by Celery if the settings have only its parts."""
    url = app.conf.broker_read_url
    if isinstance(url, Sequence) and not isinstance(url, str):
        url = ";".join(url)
    parts = (app.conf.broker_user, app.conf.broker_password, app.conf.broker_vhost, app.conf.broker_port)
    if url and "://" in url and not any(parts):
        return str(url)
    return str(app.connection_for_read().as_uri(include_password=True))


def _accepted(settings: Settings, conf: Any) -> tuple[str, ...]:
    if "accept_content" in settings.origins:
        return settings.accept_content
    return tuple(sorted({"json", conf.event_serializer, *conf.accept_content} - _PICKLE))


def _queues(conf: Any) -> tuple[str, ...]:
    """Return the names of `task_queues`: a mapping, or a list of kombu's Queue."""
    declared = conf.task_queues or (conf.task_default_queue,)
    return tuple(str(getattr(queue, "name", queue)) for queue in declared)


def _routes(routers: Any) -> tuple[list[tuple[str, str]], bool]:
    """Return the routes of `task_routes` that can be known, exact names first, and whether that is all of them.

    As `celery/app/routes.py` (`prepare`, `MapRoute`); what follows a function, a regular expression
    or an exchange is uncertain: it stands only for what those leave.
    """
    known: list[tuple[str, str]] = []
    for router in routers if isinstance(routers, list | tuple) else [routers] if routers else []:
        if callable(router) or isinstance(router, str):
            return known, False
        pairs = list(router.items() if isinstance(router, Mapping) else router)
        for name, route in sorted(pairs, key=lambda pair: "*" in str(pair[0])):
            queue = _queue(route)
            if not isinstance(name, str) or not queue:
                return known, False
            known.append((name, queue))
    return known, True


def _queue(route: Any) -> str:
    """Return the name of the queue of one route: a name, a kombu Queue, or a mapping with either; else empty."""
    queue = route.get("queue") if isinstance(route, Mapping) else route
    return str(getattr(queue, "name", queue or ""))


class _OwnApp(Celery):  # type: ignore[misc]  # Celery has no types
    """An app that talks to one broker only.

    `app.conf.broker_url` would be replaced by the environment's CELERY_BROKER_URL (`celery/app/utils.py`).
    """

    def __init__(self, broker: BrokerSettings) -> None:
        super().__init__("celery-observe", broker=broker.url, set_as_current=False, fixups=[])
        self._url = broker.url

    def connection_for_read(self, url: str | None = None, **options: Any) -> Any:
        return super().connection_for_read(url or self._url, **options)

    def connection_for_write(self, url: str | None = None, **options: Any) -> Any:
        return super().connection_for_write(url or self._url, **options)


def celery_app(broker: BrokerSettings) -> Celery:
    """Return the app to inspect and control the workers of a broker with: the user's own, or one that is like it."""
    if broker.app is not None and broker.tls == (broker.use_ssl or False):  # else it would verify less
        return broker.app
    app = _OwnApp(broker)
    app.amqp.Connection = VerifiedConnection
    app.conf.update(
        broker_transport_options=broker.transport_options,
        broker_use_ssl=broker.tls,
        broker_connection_timeout=broker.connection_timeout,
        broker_login_method=broker.login_method,
        broker_failover_strategy=broker.failover_strategy,
        control_exchange=broker.control_exchange,
        event_exchange=broker.event_exchange,
    )
    return app
