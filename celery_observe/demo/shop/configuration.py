"""The configuration of the shop. Broker and results come from CELERY_BROKER_URL and CELERY_RESULT_BACKEND."""

from __future__ import annotations

from datetime import timedelta

from celery.schedules import crontab
from kombu import Queue

from celery_observe.demo.shop.routing import DEAD_LETTERS, QUEUES, ROUTES, STEPS

# The modules with tasks: a worker imports them when it starts, not when the first message comes.
include = [f"celery_observe.demo.shop.{room}" for room in ("fulfilment", "messages", "catalogue", "reports", "limits")]

# --- What goes over the wire ---

# Pickle lets everybody who can publish run code in the workers.
task_serializer = result_serializer = "json"
accept_content = ["json"]
# Times without a zone are the same on every host.
enable_utc = True
timezone = "UTC"

# --- The broker ---

broker_connection_retry_on_startup = True  # a worker that starts before its broker waits instead of dying
broker_transport_options = {
    # Redis has no priorities: kombu keeps one list for each of these steps, named queue:step.
    "priority_steps": STEPS,
    "sep": ":",
    # A worker that consumes several queues empties the first before it looks at the next.
    "queue_order_strategy": "priority",
    # Redis delivers again what was not acknowledged for so long: more than the longest countdown and task.
    "visibility_timeout": 3600,
    # RabbitMQ confirms each publish: without that, a connection that breaks loses what was just sent.
    "confirm_publish": True,
}
# RabbitMQ has priorities where the queue was declared with them.
task_queue_max_priority = STEPS[-1]
# No task_default_priority: it is an attribute of every task, and goes before the routes.

# --- Queues and routes ---

task_queues = [Queue(name) for name in (*QUEUES, DEAD_LETTERS)]
task_default_queue = "default"
# A misspelt queue is an error of the publisher, and not a queue that nobody consumes.
task_create_missing_queues = False
task_routes = ROUTES

# --- Delivery ---

# Acknowledged when done, and delivered again when the worker died: tasks are written to run twice.
task_acks_late = True
task_reject_on_worker_lost = True
# With the default of 4, a slot keeps three tasks waiting that another worker could run at once.
worker_prefetch_multiplier = 1
# What is late cannot be acknowledged over another connection: end it, it comes again.
worker_cancel_long_running_tasks_on_connection_loss = True

# --- Results ---

# Nobody reads them, and each is a round trip; the members of a chord say otherwise.
task_ignore_result = True
# Redis would keep them for a day.
result_expires = 3600

# --- Bounds ---

# No task runs for ever. Those that should end sooner have limits of their own.
task_time_limit = 300
# What leaks is given back: a child is replaced after so many tasks, or once it has grown to so many KiB.
worker_max_tasks_per_child = 1000
worker_max_memory_per_child = 400_000

# --- Observability ---

# What `worker -E` does; without the second, nobody knows the queue of a task, and how long it waited there.
worker_send_task_events = True
task_send_sent_event = True

# --- Beat ---

beat_schedule = {
    # Often, and one is as good as the next: what was not started by then need not be.
    "count-stock": {"task": "inventory.count", "schedule": timedelta(seconds=3), "options": {"expires": 3}},
    "remind-of-carts": {"task": "carts.sweep", "schedule": timedelta(seconds=5)},
    # When nobody needs the slots; by the clock of UTC, which no summer shifts.
    "report-nightly": {"task": "reports.nightly", "schedule": crontab(hour=3, minute=0)},
}
