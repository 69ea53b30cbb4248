"""Files whose content is made into something, again whenever they change."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Generic, TypeVar

from celery_observe.errors import ExpositionError
from celery_observe.logs import log

Content = TypeVar("Content")
Stamp = tuple[tuple[int, int, int] | None, ...]


class Watched(Generic[Content]):
    """What `load` makes of some files. Asked on use, by one thread, so there is no timer and no watcher.

    While changed files cannot be used (half written, gone, empty), the last good content stays in force and
    each such state is logged once: a slip while turning over a secret neither opens the door nor locks it.
    """

    def __init__(self, paths: Iterable[Path], load: Callable[[], Content]) -> None:
        """Load the files for the first time; `load` raises ExpositionError when it cannot use them."""
        self._paths = tuple(paths)
        self._load = load
        self._loaded = self._refused = self._stamp()
        self._content = load()

    def get(self) -> Content:
        """Return the content of the files as they are now, or as they last were good."""
        stamp = self._stamp()
        if stamp != self._loaded:
            self._reload(stamp)
        return self._content

    def _reload(self, stamp: Stamp) -> None:
        files = [str(path) for path in self._paths]
        try:
            self._content = self._load()
        except ExpositionError as error:
            if stamp != self._refused:
                log.warning("http_files_not_reloaded", files=files, error=str(error), in_force="the last good content")
            self._refused = stamp
        else:
            self._loaded = self._refused = stamp
            log.info("http_files_reloaded", files=files)

    def _stamp(self) -> Stamp:
        return tuple(map(_stamp, self._paths))


def _stamp(path: Path) -> tuple[int, int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino
