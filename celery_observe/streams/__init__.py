"""Where event bodies come from: one file per kind of broker, which registers itself with `handles`.

A stream owns its connection. Its `read` returns JSON bodies, whatever content type they were sent in.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable
from typing import Protocol, TypeVar

from celery_observe.event import Malformed
from celery_observe.settings import BrokerSettings

ANY_SCHEME = ""
"""Registers the stream for brokers that no other stream handles."""


class Stream(Protocol):
    """A connection to one broker's event stream, for use by one thread. It can be opened again."""

    def open(self) -> None:
        """Connect and subscribe. Raises StreamError, which says what failed and what to do."""

    def read(self, timeout: float) -> list[bytes]:
        """Return the JSON bodies that have arrived, [] when none does within `timeout` seconds.

        Raises StreamError when the connection is lost, or when the peer has fallen silent.
        """

    def close(self) -> None:
        """Disconnect. Never raises."""


StreamFactory = Callable[[BrokerSettings, Callable[[Malformed], None]], Stream]
_Factory = TypeVar("_Factory", bound=StreamFactory)
_factories: dict[str, StreamFactory] = {}


def handles(*schemes: str) -> Callable[[_Factory], _Factory]:
    """Register the decorated stream for brokers with these URL `schemes` (less what follows a `+`)."""

    def register(factory: _Factory) -> _Factory:
        _factories.update(dict.fromkeys(schemes, factory))
        return factory

    return register


def stream_for(broker: BrokerSettings, on_malformed: Callable[[Malformed], None]) -> Stream:
    """Return the closed stream for `broker`; messages that cannot be read are reported to `on_malformed`.

    Raises SettingsError when the URL, a transport option or a content type is unknown.
    """
    for module in pkgutil.iter_modules(__path__, prefix=f"{__name__}."):
        importlib.import_module(module.name)
    factory = _factories.get(broker.transport, _factories[ANY_SCHEME])
    return factory(broker, on_malformed)
