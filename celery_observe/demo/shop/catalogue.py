"""The catalogue: prices, pictures and imports, many small things at once."""

from __future__ import annotations

from celery import Signature, Task

from celery_observe.demo.shop import app, outside

ARTICLES = ("book", "lamp", "chair")
CURRENCIES = ("EUR", "USD", "SEK")


@app.task(name="prices.refresh")
def refresh(article: str) -> None:
    """Look up the price of an article."""
    outside.exchange(article, "EUR")


@app.task(name="prices.convert")
def convert(article: str, currency: str) -> None:
    """Reckon the price of an article in a currency."""
    outside.exchange(article, currency)


@app.task(name="images.resize", lane="low", time_limit=1)
def resize(picture: str) -> None:
    """Scale a picture; one that takes longer than a second costs the child its life."""
    outside.scaler(picture)


@app.task(bind=True, name="catalogue.import")
def import_feed(self: Task, articles: int) -> None:
    """Take in the feed of a supplier, and tell how far that is."""
    self.update_state(state="DOWNLOADING", meta={"current": 0, "total": articles})
    for article in outside.feed(articles):
        if not article % 10:
            self.update_state(state="IMPORTING", meta={"current": article, "total": articles})


def refresh_all() -> Signature:
    """Return a `map`: one message, one task, which does all articles in turn."""
    return refresh.map(ARTICLES)


def convert_all() -> Signature:
    """Return a `starmap`: the same for tasks with several arguments."""
    return convert.starmap([(article, currency) for article in ARTICLES for currency in CURRENCIES])


def convert_in_chunks() -> Signature:
    """Return `chunks`: a group of starmaps of three, so that three workers may share them."""
    return (
        convert.chunks([(article, currency) for article in ARTICLES for currency in CURRENCIES], 3)
        .group()
        .set(queue="low")
    )
