"""The file in which the ledgers of workers outlive a restart of the observer.

Without it the tasks that workers accepted while nobody watched cannot be told from those accepted before.
"""

from __future__ import annotations

import os
from pathlib import Path

import msgspec

from celery_observe.errors import StateError
from celery_observe.fleet import Ledger


class StateFile:
    """Ledgers by broker, as JSON; written aside and then moved into place, so that a crash leaves a whole file."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._path = Path(path)

    def load(self) -> dict[str, list[Ledger]]:
        """Return what was saved last; nothing if nothing was. Raises StateError if the file cannot be used."""
        try:
            return msgspec.json.decode(self._path.read_bytes(), type=dict[str, list[Ledger]])
        except FileNotFoundError:
            return {}
        except (OSError, msgspec.DecodeError) as error:
            raise StateError(f"state file {self._path} cannot be read: {error}; remove it to begin anew") from error

    def save(self, ledgers: dict[str, list[Ledger]]) -> None:
        """Replace what was saved. Raises StateError."""
        aside = self._path.with_name(f".{self._path.name}.{os.getpid()}")
        try:
            aside.write_bytes(msgspec.json.encode(ledgers))
            aside.replace(self._path)
        except OSError as error:
            aside.unlink(missing_ok=True)
            raise StateError(f"state file {self._path} cannot be written: {error.strerror}") from error
