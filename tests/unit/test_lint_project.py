"""What lint knows of names: aliases, classes, apps and settings, in one file or several."""

from __future__ import annotations

import pytest

from unit.lint_sources import found

WAITING = "other.delay().get()"


@pytest.mark.parametrize(
    ("imports", "decorator"),
    [
        ("from celery import shared_task", "@shared_task"),
        ("from celery import shared_task as task", "@task(bind=False, queue='low')"),
        ("import celery", "@celery.shared_task()"),
        ("import celery as c", "@c.shared_task"),
        ("from celery import Celery\napp = Celery()", "@app.task"),
        ("from celery import Celery\nbackground = Celery()", "@background.task(queue='low')"),
        ("from celery import Celery\nclass Mine(Celery): pass\nbackground: Mine = Mine()", "@background.task"),
        ("from celery import Celery\napp = Celery()\njob = app.task", "@job"),
        ("from shop.celery import app", "@app.task"),
        ("from shop import celery_app", "@celery_app.task"),
        ("from celery import current_app", "@current_app.task"),
        ("try:\n    from celery import shared_task\nexcept ImportError:\n    shared_task = None", "@shared_task"),
        (
            "from celery.schedules import crontab\nfrom shop.celery import app",
            "@app.periodic_task(run_every=crontab())",
        ),
    ],
)
def test_a_task_is_known_however_it_is_made(imports: str, decorator: str) -> None:
    """By Celery's decorators, under whatever name."""
    text = f"{imports}\n{decorator}\ndef total():\n    return {WAITING}\n"

    assert [each.partition(" ")[2] for each in found({"tasks.py": text})] == ["blocking-result"]


@pytest.mark.parametrize(
    ("imports", "decorator"),
    [
        ("from airflow.decorators import task", "@task"),
        ("from shop import app", "@app.task"),
        ("from invoke import task", "@task(optional=['x'])"),
        ("import celery", "@celery.signals.task_prerun.connect"),
        ("from celery import shared_task\ndef shared_task(f): return f", "@property"),
    ],
)
def test_what_is_no_task_of_celery_is_left_alone(imports: str, decorator: str) -> None:
    """Other libraries have tasks too."""
    assert found({"tasks.py": f"{imports}\n{decorator}\ndef total():\n    return {WAITING}\n# celery"}) == []


def test_decorators_of_ones_own_can_be_named() -> None:
    """The option task-decorators."""
    text = f"from shop.jobs import job\n@job('low')\ndef total():\n    return {WAITING}\n# celery"

    assert found({"tasks.py": text}) == []
    assert found({"tasks.py": text}, task_decorators=("shop.jobs.job",)) == ["tasks.py:4 blocking-result"]


def test_classes_are_tasks_by_their_bases() -> None:
    """In another module, over several steps."""
    files = {
        "shop/__init__.py": "",
        "shop/bases.py": """
            from shop.celery import app
            class Base(app.Task):
                abstract = True
                reject_on_worker_lost = True
            """,
        "shop/charge.py": f"""
            from .bases import Base as Task
            class Charge(Task):
                def run(self):
                    {WAITING}
            class Other:
                def run(self):
                    {WAITING}
            """,
    }

    # The option is where it is written; what is written once is told once for each task that has it.
    assert found(files) == ["shop/charge.py:5 blocking-result", "shop/bases.py:5 early-acknowledgement"]


def test_a_task_is_found_through_other_modules() -> None:
    """Re-exported by a package, imported inside a function, called through its module."""
    files = {
        "shop/__init__.py": "from .tasks import close as finish",
        "shop/tasks.py": "from celery import shared_task\n@shared_task\ndef close():\n    pass\n",
        "shop/views.py": """
            from celery import chain
            def view(first):
                import shop
                from shop import tasks
                chain(first.s(), shop.finish.s())()
                chain(first.s(), tasks.close.s())()
                body = tasks.close.s()
                return chain(first.s(), body)
            """,
    }

    assert found(files) == [f"shop/views.py:{line} chord-callback" for line in (6, 7, 8)]


def test_what_a_function_calls_its_own_is_not_celerys() -> None:
    """A parameter or a variable hides what was imported."""
    text = """
        from celery import chord, shared_task
        @shared_task
        def close(): pass
        def view(chord, header):
            chord(header, close.s())
        def other(header):
            close = header.close
            return close.s()
        """

    assert found({"tasks.py": text}) == []


def test_packages_without_init_are_known_by_their_folders() -> None:
    """Namespace packages."""
    files = {
        "src/shop/tasks.py": "from celery import shared_task\n@shared_task\ndef close(): pass\n",
        "src/shop/views.py": "from celery import chord\nfrom shop.tasks import close\nchord([close.si()], close.s())\n",
    }

    assert found(files) == ["src/shop/views.py:3 chord-callback"]


def test_scripts_of_one_name_are_all_looked_at() -> None:
    """Two files `tasks.py` that are in no package."""
    text = f"from celery import shared_task\n@shared_task\ndef total():\n    {WAITING}\n"

    assert found({"a/tasks.py": text, "b/tasks.py": text}) == [
        "a/tasks.py:4 blocking-result",
        "b/tasks.py:4 blocking-result",
    ]


@pytest.mark.parametrize(
    "setting",
    [
        "task_acks_late = True",
        "CELERY_TASK_ACKS_LATE = True",
        "CELERY_ACKS_LATE = env.bool('ACKS_LATE')",
        "CELERY = {'task_acks_late': True}",
        "app.conf.update(task_acks_late=True)  # celery",
        "app.conf['task_acks_late'] = True  # celery",
    ],
)
def test_a_setting_counts_wherever_it_is_made(setting: str) -> None:
    """In another file, in the ways that Celery and Django have."""
    task = "from celery import shared_task\n@shared_task(reject_on_worker_lost=True)\ndef resize(): pass\n"

    assert found({"tasks.py": task, "settings.py": "TASKS = CELERY = ''"}) == ["tasks.py:2 early-acknowledgement"]
    assert found({"tasks.py": task, "settings.py": setting}) == []


def test_a_call_without_timeout_is_found_where_a_task_leads() -> None:
    """In a function of another module, unless only tasks with a limit lead there."""
    client = "import requests  # for celery\ndef rates():\n    return requests.get('https://bank')\n"
    task = (
        "from celery import shared_task\nfrom shop.bank import rates\n@shared_task({})\ndef refresh():\n    rates()\n"
    )

    assert found({"shop/bank.py": client, "shop/tasks.py": task.format("")}) == ["shop/bank.py:3 missing-timeout"]
    assert found({"shop/bank.py": client, "shop/tasks.py": task.format("time_limit=9")}) == []
    assert found({"shop/bank.py": client, "tasks.py": task.format(""), "c.py": "CELERYD_TASK_TIME_LIMIT = 9"}) == []


def test_a_chord_whose_body_is_frozen_by_set_gets_no_result() -> None:
    """`set(immutable=True)` is what `si` does."""
    text = """
        from celery import chord, shared_task
        @shared_task
        def close(): pass
        chord([close.si()], close.s().set(queue="low", immutable=True))
        """

    assert found({"tasks.py": text}) == []


def test_a_loop_over_tasks_that_publish_in_their_own_way_is_left_alone() -> None:
    """A group would not call their `apply_async`, which waits for the end of a transaction, for example."""
    text = """
        from celery import Task, shared_task
        class OnCommit(Task):
            {}
        @shared_task(base=OnCommit)
        def refresh(article): pass
        def refresh_all(articles):
            for article in articles:
                refresh.delay(article)
        """

    assert found({"tasks.py": text.format("pass")}) == ["tasks.py:9 delay-in-loop"]
    assert found({"tasks.py": text.format("def apply_async(self, *args, **kwargs): pass")}) == []


@pytest.mark.parametrize(
    "text",
    [
        "a = a + a\nb = b * c\nc = b + b\n",
        "def f(x):\n    x = y = x\n    y = x\n    x = y\n    y = x\n    x = y\n",
        "import tasks\ntasks = tasks\napp = tasks.app\n",
        "from tasks import *\nfrom . import tasks\nfrom ....... import far\n",
        "class A(B): pass\nclass B(A): pass\n",
    ],
)
def test_what_is_defined_by_itself_comes_to_an_end(text: str) -> None:
    """Names, classes and numbers that go in circles."""
    call = "from celery import shared_task\n@shared_task\ndef g(x):\n    g.apply_async((x,), countdown=a, eta=x)\n"

    assert found({"tasks.py": text + call}) == []
