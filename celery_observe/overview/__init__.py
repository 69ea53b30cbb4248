"""What the live page shows: samples → one small answer, with a bounded history of the last minutes.

Pure: the clock is an argument. The pipeline takes a view every two seconds and keeps its text; whoever asks for the
page is given that text. Nothing here knows an argument, a result or the text of an exception.
"""

from __future__ import annotations

from celery_observe.overview.model import Alert, Overview
from celery_observe.overview.source import Source
from celery_observe.overview.viewer import INTERVAL, Viewer

__all__ = ["INTERVAL", "Alert", "Overview", "Source", "Viewer"]
