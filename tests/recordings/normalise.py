"""Make a recording the same each time: no host, path, pid, id or hour of this machine stays in it."""

from __future__ import annotations

import re
import socket
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

#: The hour at which every recording begins, in seconds since the epoch.
BEGIN = 1_700_000_000.0

_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_GENERATED = re.compile(r"\bgen(\d+)@" + re.escape(socket.gethostname()))
_FOLDER = re.compile(r'File "[^"]*/(?:site-packages|python3\.\d+|tests)/')
_ADDRESS = re.compile(r"\b0x[0-9a-f]{6,}")
_PORT = re.compile(r"127\.0\.0\.1:\d+")


class Normaliser:
    """Renames what differs from run to run, consistently within one recording."""

    def __init__(self, first: float) -> None:
        """Take the arrival time of the first event, which becomes `BEGIN`."""
        self._shift = first - BEGIN
        self._uuids: dict[str, str] = {}
        self._pids: dict[int, int] = {}

    def line(self, at: float, body: Any) -> dict[str, Any]:
        """Return one line of a recording: when a message arrived, and the body it had."""
        events = [self._event(event) for event in body] if isinstance(body, list) else self._event(body)
        return {"at": self._time(at), "body": events}

    def _event(self, event: dict[str, Any]) -> dict[str, Any]:
        return {key: self._field(key, value) for key, value in event.items()}

    def _field(self, key: str, value: Any) -> Any:
        renames: dict[str, Callable[[Any], Any]] = {
            "timestamp": self._time,
            "pid": self._pid,
            "eta": self._moment,
            "expires": self._moment,
            "loadavg": lambda _: [0.5, 0.5, 0.5],
            "runtime": lambda runtime: round(runtime, 6),
        }
        return None if value is None else renames.get(key, self._text)(value)

    def _time(self, seconds: float) -> float:
        return round(seconds - self._shift, 6)

    def _moment(self, moment: str) -> str:
        return (datetime.fromisoformat(moment) - timedelta(seconds=self._shift)).isoformat()

    def _pid(self, pid: int) -> int:
        return self._pids.setdefault(pid, 101 + len(self._pids))

    def _uuid(self, uuid: str) -> str:
        return self._uuids.setdefault(uuid, f"00000000-0000-4000-8000-{len(self._uuids) + 1:012d}")

    def _text(self, text: Any) -> Any:
        if not isinstance(text, str):
            return text
        text = _UUID.sub(lambda found: self._uuid(found[0]), text)
        text = _GENERATED.sub(lambda found: f"gen{self._pid(int(found[1]))}@host", text)
        text = _PORT.sub("127.0.0.1:6379", text)
        return _ADDRESS.sub("0x7f0000000000", _FOLDER.sub('File "', text))
