"""Which of several exporters this one is, as `--shard` says it."""

from __future__ import annotations

import platform
import re

from celery_observe.settings.declaration import Part, Settings

MOST_SHARDS = 1000
_FORM = re.compile(r"(auto|[0-9]{1,6})/([0-9]{1,6})")
_ORDINAL = re.compile(r"-([0-9]{1,6})")


def part(settings: Settings, host: str | None = None) -> Part | None:
    """Return which shard the process on this host (default: this one) is; None if there is but one exporter.

    Only for settings of which `shard_problem` has nothing to tell.
    """
    given = _FORM.fullmatch(settings.shard or "")
    if given is None:
        return None
    index, count = given.groups()
    return Part(_ordinal(host or platform.node()) if index == "auto" else int(index), int(count))


def shard_problem(settings: Settings, host: str | None = None) -> str | None:
    """Tell that there is no such shard."""
    if settings.shard is None:
        return None
    origin, shown = settings.origin("shard"), f"{settings.shard!r:.100}"
    given = _FORM.fullmatch(settings.shard)
    if given is None or not 1 <= int(given[2]) <= MOST_SHARDS:
        return f"{origin}: {shown} is no shard. Give INDEX/COUNT, such as 0/3, or auto/3; {MOST_SHARDS} at the most."
    name = host or platform.node()
    if given[1] == "auto" and _ordinal(name) < 0:
        return f"{origin}: the name of this host, {name!r:.100}, does not end in -NUMBER. Give INDEX/COUNT."
    found = part(settings, name)
    if found is not None and found.index >= found.count:
        source = f" (of {name!r:.100})" if given[1] == "auto" else ""
        return f"{origin}: there is no shard {found.index}{source} of {found.count}: they are numbered from 0."
    return None


def _ordinal(name: str) -> int:
    """Return the number at the end of the name of a pod of a StatefulSet; -1 if it has none."""
    found = re.search(_ORDINAL.pattern + "$", name.partition(".")[0])
    return int(found[1]) if found is not None else -1
