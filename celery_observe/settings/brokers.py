"""The settings of the source, one broker each."""

from __future__ import annotations

from typing import Any

from celery_observe import broker
from celery_observe.broker import BrokerSettings
from celery_observe.settings.declaration import Settings


def brokers(settings: Settings) -> tuple[BrokerSettings, ...]:
    """Return what the settings say of each broker."""
    return tuple(
        BrokerSettings(
            name=name,
            url=url,
            transport_options=settings.transport_option,
            use_ssl=use_ssl(settings, url),
            accept_content=settings.accept_content,
            event_exchange=settings.event_exchange,
            event_queue_prefix=settings.event_queue_prefix,
            event_queue_ttl=settings.event_queue_ttl,
            task_queue=settings.task_queue,
        )
        for name, url in map(broker.name_and_url, settings.broker)
    )


def use_ssl(settings: Settings, url: str) -> dict[str, Any] | None:
    """Return what the settings `broker_tls_*` amount to for a broker; None if none is given."""
    files = {
        "ca_certs": settings.broker_tls_ca_file,
        "certfile": settings.broker_tls_cert_file,
        "keyfile": settings.broker_tls_key_file,
    }
    given = {word: path for word, path in files.items() if path}
    insecure = settings.broker_tls_insecure
    return broker.tls_options(broker.transport_of(url), given, verify=not insecure) if given or insecure else None
