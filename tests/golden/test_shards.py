"""What was recorded from real workers, read by several shards, is what one exporter tells of it."""

from __future__ import annotations

from functools import cache

import pytest

from celery_observe.shard import Shard
from golden.replay import RECORDINGS, Replay, recordings
from services.joined import differences, joined

NAMES = [str(file.relative_to(RECORDINGS).with_suffix("")) for file in recordings()]


@cache
def pages(name: str, count: int) -> list[str]:
    """The pages of so many shards; 0 is an exporter without any."""
    shards = [Shard(index, count) for index in range(count)] if count else [None]
    file = RECORDINGS / f"{name}.jsonl"
    return [Replay(worker_timeout=20, shard=shard).play(file).wait(35).page() for shard in shards]


@pytest.mark.parametrize("name", NAMES)
def test_shards_together_tell_what_one_exporter_tells(name: str) -> None:
    """Two, three and five pages joined are the one page, sample by sample."""
    one = joined(pages(name, 0))

    for count in (2, 3, 5):
        assert not differences(joined(pages(name, count)), one)
