"""What a demo cannot have: a bank, a warehouse, a printer. They take their time, and some do not do as they are told.

As with the card numbers of a bank's sandbox, what one asks for decides what one gets.
"""

from __future__ import annotations

import random
import time
from collections.abc import Iterator

_STUCK = 60.0


def _take(seconds: float) -> None:
    """Take about so long."""
    time.sleep(seconds * random.lognormvariate(0.0, 0.35))


def post_office(city: str) -> bool:
    """Tell whether parcels go to a city."""
    _take(0.03)
    return city != "Atlantis"


def bank(card: str, attempt: int) -> None:
    """Move the money. Raises TimeoutError: at the first attempt for the card `busy`, at each for `dead`."""
    _take(0.1)
    if card == "dead" or (card == "busy" and attempt == 0):
        raise TimeoutError


def printer(city: str) -> None:
    """Print a label; paper with the name of this one village jams."""
    _take(_STUCK if city.startswith("Llanfair") else 0.2)


def shelf(_article: str) -> None:
    """Fetch an article, or put it down."""
    _take(0.05)


def postman(_addressee: str) -> None:
    """Hand over a mail or an SMS."""
    _take(0.03)


def exchange(_article: str, _currency: str) -> None:
    """Ask what an article costs today."""
    _take(0.04)


def supplier(article: str) -> None:
    """Take an order; nobody is at the telephone for an article without a name."""
    _take(0.05 if article else _STUCK)


def archive(customer: str) -> None:
    """Collect what is known of a customer."""
    _take(0.1 + 0.01 * len(customer))


def scaler(picture: str) -> None:
    """Scale a picture; one that is broken it scales for ever."""
    _take(_STUCK if picture == "broken" else 0.2)


def feed(articles: int) -> Iterator[int]:
    """Yield the articles of a supplier's feed as they come."""
    for article in range(articles):
        _take(0.01)
        yield article


def ledger(days: int) -> list[int]:
    """Return the turnover of so many days."""
    _take(0.05)
    return [random.randrange(1000) for _ in range(days)]  # noqa: S311 - no secret
