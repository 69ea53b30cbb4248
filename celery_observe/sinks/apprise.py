"""Any of the hundred services that Apprise knows: mail, Teams, Telegram, Discord, SMS, …. Needs the extra `alerts`."""

from __future__ import annotations

from typing import Any, ClassVar

import msgspec

from celery_observe.errors import SettingsError, SinkError
from celery_observe.hooks import Message, Status
from celery_observe.sinks import delivers

_TYPES = {"critical": "failure", "error": "failure", "warning": "warning"}


@delivers("apprise")
class Apprise(msgspec.Struct, frozen=True, kw_only=True):
    """``url`` is one of Apprise's, such as ``mailtos://user:password@host``, or several, separated by spaces."""

    forgets: ClassVar[bool] = False

    url: str

    def __post_init__(self) -> None:
        """Raise SettingsError where Apprise is missing, or does not know the URL."""
        self._service()

    def __repr__(self) -> str:
        return "Apprise()"

    def deliver(self, message: Message) -> None:
        """Notify all services; which time they have is said in their URLs (``cto``, ``rto``)."""
        first = message.alerts[0]
        kind = "success" if first.status is Status.RESOLVED else _TYPES.get(first.severity, "info")
        if not self._service().notify(title=message.title, body=message.text, notify_type=kind):
            raise SinkError("Apprise could not notify all services: its own log says why.")

    def _service(self) -> Any:
        try:
            import apprise  # noqa: PLC0415 - needs the extra `alerts`
        except ImportError:
            raise SettingsError("Apprise is not installed: pip install 'celery-observe[alerts]'.") from None
        service = apprise.Apprise()
        if not self.url.strip() or not all(service.add(url) for url in self.url.split()):
            raise SettingsError("url: Apprise does not know it. Give one such as mailtos://user:password@host.")
        return service
