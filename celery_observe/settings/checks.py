"""What must hold of settings together: each check returns the problem and its fix, None if there is none."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

from kombu.serialization import registry

from celery_observe import broker
from celery_observe.masking import mask_url
from celery_observe.settings.brokers import use_ssl
from celery_observe.settings.declaration import SETTINGS, Settings
from celery_observe.settings.sharding import shard_problem

_CONTRADICTIONS: tuple[tuple[Callable[[Settings], Any], str], ...] = (
    (
        lambda s: s.listen and (s.broker or s.app),
        "--listen and --broker or --app would count each task twice: give one of them.",
    ),
    (
        lambda s: s.listen and s.replay_traces,
        "--replay-traces rebuilds traces from a broker's events, of which --listen reads none: have the workers trace.",
    ),
    (
        lambda s: s.shard and s.listen,
        "--shard divides the events of a broker, of which --listen reads none: each worker reports to one process.",
    ),
    (
        lambda s: s.shard and s.replay_traces,
        "--replay-traces needs all tasks of a trace, which --shard divides: run one exporter more for the traces.",
    ),
    (
        lambda s: s.shard and s.compat,
        "--compat serves families whose dashboards look at one page, of which --shard serves a share: leave one out.",
    ),
    (
        lambda s: s.sidecar and s.listen,
        "CELERY_OBSERVE_SIDECAR is where workers report, --listen where they are heard: one process has one of them.",
    ),
    (
        lambda s: s.broker_tls_key_file and not s.broker_tls_cert_file,
        "--broker-tls-key-file needs --broker-tls-cert-file, the certificate that the key belongs to.",
    ),
    (
        lambda s: s.broker_tls_insecure and s.broker_tls_ca_file,
        "--broker-tls-insecure verifies nothing, --broker-tls-ca-file verifies with a CA: give one of them.",
    ),
    (
        lambda s: s.min_slots > s.max_slots,
        "--min-slots is above --max-slots: there is no number between them.",
    ),
    (
        lambda s: s.enable_events and not s.remote_control,
        "--enable-events needs the remote control that --no-remote-control forbids: give one of them.",
    ),
    (
        lambda s: bool(s.tls_cert_file) != bool(s.tls_key_file),
        "--tls-cert-file and --tls-key-file need each other: give both.",
    ),
    (
        lambda s: s.tls_client_ca_file and not s.tls_cert_file,
        "--tls-client-ca-file needs HTTPS: give --tls-cert-file and --tls-key-file too.",
    ),
)


def source_problem(settings: Settings) -> str | None:
    """Tell that there is nothing to observe."""
    if settings.broker or settings.app or settings.listen:
        return None
    return "Nothing to observe: give --broker URL or --app MODULE (CELERY_OBSERVE_BROKER, CELERY_OBSERVE_APP)."


def _socket_problem(settings: Settings) -> str | None:
    for name in ("listen", "sidecar"):
        url = getattr(settings, name)
        if url and not broker.socket_path(url):
            return f"{settings.origin(name)}: {mask_url(url)!r} is no socket. Give unix:///run/celery-observe.sock."
    return None


def _contradiction(settings: Settings) -> str | None:
    return next((message for holds, message in _CONTRADICTIONS if holds(settings)), None)


def _broker_problem(settings: Settings) -> str | None:
    named = [broker.name_and_url(text) for text in settings.broker]
    origin = settings.origin("broker")
    for _, url in named:
        problem = broker.url_problem(url)
        if problem:
            return f"{origin}: {problem}"
        if use_ssl(settings, url) and broker.transport_of(url) not in broker.REDIS | broker.AMQP:
            return f"{origin}: {mask_url(url)!r} has no TLS. Leave the settings --broker-tls-* out."
    names = [name for name, _ in named]
    if len(names) > 1 and (not all(names) or len(set(names)) < len(names)):
        return f"{origin}: got {', '.join(map(mask_url, settings.broker))}. Give each a NAME=URL of its own."
    return None


def _management_problem(settings: Settings) -> str | None:
    brokers = {broker.name_and_url(text)[0] for text in settings.broker} or {""}
    for name, url in map(broker.name_and_url, settings.management_url):
        if not broker.is_http_url(url):
            return f"{settings.origin('management_url')}: {mask_url(url)!r} is not a URL. Give http://HOST:15672."
        if name not in brokers:
            return f"{settings.origin('management_url')}: no --broker is called {name!r}. Give it the NAME of one."
    return None


def _flower_problem(settings: Settings) -> str | None:
    url = settings.flower_url
    if not url or (broker.is_http_url(url) and "@" not in url and not set(url) & set("?#{}")):
        return None
    return f"{settings.origin('flower_url')}: {mask_url(url)!r} is no plain URL. Give http://HOST:5555, no login."


def _content_problem(settings: Settings) -> str | None:
    known = registry.name_to_type
    unknown = [content for content in settings.accept_content if content not in {*known, *known.values()}]
    if settings.accept_content and not unknown:
        return None
    return f"{settings.origin('accept_content')}: got {unknown}. Give some of {', '.join(sorted(known))}."


def _bucket_problem(settings: Settings) -> str | None:
    for name, buckets in (
        ("runtime_buckets", settings.runtime_buckets or (1.0,)),
        *(("task_buckets", buckets) for buckets in settings.task_buckets.values()),
    ):
        if not buckets or any(low >= high for low, high in pairwise(buckets)):
            shown = ",".join(f"{bound:g}" for bound in buckets)
            return f"{settings.origin(name)}: got {shown or 'none'}. Give bounds that ascend, such as 0.1,1,10."
    return None


_TAKEN = frozenset({"task", "queue", "worker", "outcome", "runtime", "broker", "le", "quantile"})
"""Names of labels that stand, or may stand, beside users' own."""
_MOST_LABELS = 5


def _label_problem(settings: Settings) -> str | None:
    names = settings.label_names
    origin = settings.origin("label_names")
    for name in names:
        if name in _TAKEN or not re.fullmatch(r"(?!__)[a-zA-Z_][a-zA-Z0-9_]*", name):
            return f"{origin}: {name!r} is taken, or no name of a label. Give letters, digits and _, such as tenant."
    if len(set(names)) < len(names) or len(names) > _MOST_LABELS:
        return f"{origin}: got {', '.join(names)}. Give each once, and {_MOST_LABELS} at the most."
    return None


def _prefix_problem(settings: Settings) -> str | None:
    if re.fullmatch(r"[a-zA-Z_:][a-zA-Z0-9_:]*", settings.compat_prefix):
        return None
    shown = f"{settings.compat_prefix!r:.100}"
    return f"{settings.origin('compat_prefix')}: no name may begin with {shown}. Give letters, digits and _."


def _file_problem(settings: Settings) -> str | None:
    for name in (name for name in SETTINGS if name.endswith("_file") and getattr(settings, name)):
        path = Path(getattr(settings, name))
        if name == "state_file":
            path = path.absolute().parent
        if not path.exists() or not os.access(path, os.R_OK):
            return f"{settings.origin(name)}: {str(path)!r} does not exist or may not be read. Create it first."
    return None


CHECKS = (
    _contradiction,
    shard_problem,
    _socket_problem,
    _broker_problem,
    _management_problem,
    _flower_problem,
    _content_problem,
    _bucket_problem,
    _label_problem,
    _prefix_problem,
    _file_problem,
)
