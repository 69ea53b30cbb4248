"""Whether the broker is protected on the network."""

from __future__ import annotations

from celery_observe.broker import AMQP, REDIS
from celery_observe.doctor.evidence import Evidence
from celery_observe.doctor.registry import Found, Verdicts, checks
from celery_observe.findings import Severity, listed


@checks("broker-exposed", Severity.CRITICAL, transports=REDIS | AMQP)
def broker_exposed(evidence: Evidence) -> Verdicts:
    """The broker is reached over the network without a password or without TLS.

    Who can write to the broker can have workers execute any task with any arguments, and who can listen reads all
    arguments and results. On localhost and Unix sockets neither is needed.

    Fix: give Redis a password (`requirepass` or an ACL) and TLS (`rediss://`), RabbitMQ a user that is not `guest` and
    `amqps://`.
    """
    broker = evidence.broker
    if not broker.hosts:
        return
    if not broker.has_password or broker.user == "guest":
        yield Found(
            message="The broker asks for no password."
            if not broker.has_password
            else "The user of the broker is guest.",
            evidence=f"{broker.url} on {listed(broker.hosts)}",
            fix="requirepass, and rediss://:PASSWORD@HOST"
            if broker.transport in REDIS
            else "amqps://USER:PASSWORD@HOST",
        )
    if not broker.tls:
        yield Found(
            message="The broker is spoken to without TLS.",
            evidence=f"{broker.url} on {listed(broker.hosts)}",
            fix="rediss://…, or broker_use_ssl" if broker.transport in REDIS else "amqps://…, or broker_use_ssl",
            severity=Severity.WARNING,
        )
