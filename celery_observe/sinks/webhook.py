"""Any HTTP endpoint: JSON of ours, or a body made of a template; signed if there is a secret.

Signatures are those of Standard Webhooks (https://www.standardwebhooks.com): ``webhook-signature`` is ``v1,`` and the
base64 of the HMAC-SHA256 of id, timestamp and body, joined by dots, for which libraries exist in most languages.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import time
import uuid
from base64 import b64decode, b64encode
from string import Template
from typing import Any

import msgspec

from celery_observe.errors import SettingsError
from celery_observe.hooks import Message
from celery_observe.sinks import delivers
from celery_observe.sinks.post import HttpSink

_VALUES = frozenset({"rule", "severity", "status", "title", "text", "count", "more", "fingerprint", "trace_id"})
_PREFIX = "whsec_"


@delivers("webhook")
class Webhook(HttpSink, frozen=True, kw_only=True):
    """``template`` names values as ``$title``, escaped for a JSON text; ``secret`` is any, or `whsec_` and base64."""

    template: str | None = None
    secret: str | None = None

    def __post_init__(self) -> None:
        """Raise SettingsError for a template that is none."""
        super().__post_init__()
        try:
            signature(self.secret or "", "", "", b"")
        except ValueError:
            raise SettingsError(f"secret: what follows {_PREFIX} is not base64.") from None
        template = Template(self.template or "")
        unknown = sorted(set(template.get_identifiers()) - _VALUES)
        if unknown or not template.is_valid():
            named = ", ".join(unknown) or "a $ that begins no name"
            raise SettingsError(f"template: {named} is not known. Give ${', $'.join(sorted(_VALUES))}, or $$.")

    def deliver(self, message: Message) -> None:
        """Post one body for all alerts."""
        body = msgspec.json.encode(_plain(message)) if self.template is None else self._filled(message)
        self.post(body, headers=self._signed(body) if self.secret else None)

    def _filled(self, message: Message) -> bytes:
        values = {name: json.dumps(str(value))[1:-1] for name, value in _values(message).items()}
        return Template(self.template or "").substitute(values).encode()

    def _signed(self, body: bytes) -> dict[str, str]:
        name, now = f"msg_{uuid.uuid4().hex}", str(int(time.time()))
        signed = signature(self.secret or "", name, now, body)
        return {"webhook-id": name, "webhook-timestamp": now, "webhook-signature": signed}


def signature(secret: str, name: str, timestamp: str, body: bytes) -> str:
    """Return the signature of a body as Standard Webhooks have it."""
    key = b64decode(secret.removeprefix(_PREFIX)) if secret.startswith(_PREFIX) else secret.encode()
    signed = hmac.new(key, f"{name}.{timestamp}.".encode() + body, hashlib.sha256)
    return f"v1,{b64encode(signed.digest()).decode()}"


def _values(message: Message) -> dict[str, Any]:
    first = message.alerts[0]
    return {
        "rule": message.rule,
        "severity": first.severity,
        "status": first.status,
        "title": message.title,
        "text": message.text,
        "count": len(message.alerts) + message.more,
        "more": message.more,
        "fingerprint": first.fingerprint,
        "trace_id": first.trace_id or "",
    }


def _plain(message: Message) -> dict[str, Any]:
    return {"version": 1, "title": message.title, **msgspec.to_builtins(message)}
