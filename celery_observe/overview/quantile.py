"""Quantiles of what fell into buckets."""

from __future__ import annotations

import math
from collections.abc import Iterable


def quantile(q: float, buckets: Iterable[tuple[float, int]]) -> float:
    """Estimate a quantile from cumulative buckets (upper bound, count) as PromQL's histogram_quantile does.

    Linear within a bucket; the highest finite bound for what lies above it; NaN when nothing was observed.
    """
    found = list(buckets)
    if not found or found[-1][1] == 0:
        return math.nan
    rank = q * found[-1][1]
    lower, below = 0.0, 0
    for bound, count in found:
        if count >= rank and count > below:
            return lower if math.isinf(bound) else lower + (bound - lower) * (rank - below) / (count - below)
        lower, below = bound, count
    return lower
