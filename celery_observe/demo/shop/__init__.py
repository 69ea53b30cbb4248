"""The shop: an order-processing pipeline on Celery, as a team would run it in production, a room per subject.

| room | what is in it |
| --- | --- |
| `configuration` | every setting of the app, with its reason |
| `routing` | the queues, and who decides which task goes where |
| `bases` | base tasks: a database connection, retries with a dead-letter queue |
| `limits` | base tasks with a token bucket on Redis, per task and per user |
| `order` `fulfilment` | an order, and its way from the cart to the customer: a chain with a chord and a group |
| `messages` | mail and SMS, with rate limits that change at run time |
| `catalogue` | prices, pictures and imports: map, starmap, chunks, progress |
| `reports` | an ETL canvas that grows with its data |
| `outside` | what a demo cannot have: a bank, a warehouse, a printer |
| `observed` | the app with celery-observe: what workers and beat are started with |

The pages in `docs/shop` say what each pattern does and what is seen of it.
"""

from __future__ import annotations

from celery import Celery

app = Celery("shop", config_source="celery_observe.demo.shop.configuration")
