"""Files, options, comments and the command of `celery-observe lint`."""

from __future__ import annotations

import json
import os
from pathlib import Path
from textwrap import dedent

import jsonschema
import pytest
from click.testing import CliRunner, Result

from celery_observe import cli
from celery_observe.errors import LintError
from celery_observe.findings import Severity
from celery_observe.lint import Options, checks, load
from celery_observe.lint.files import LARGEST, module_name, sources
from unit.lint_sources import found
from unit.sarif import SCHEMA

BAD = """\
from celery import shared_task

@shared_task
def total(orders):
    return [price.delay(order).get() for order in orders]

@shared_task
def price(order):
    return order

def refresh(orders):
    for order in orders:
        price.delay(order)
"""


def invoked(*arguments: str | Path) -> Result:
    """Run the command in this process."""
    return CliRunner().invoke(cli.main, ["lint", *map(str, arguments)])


def rules(result: Result) -> list[str]:
    """The rules of the findings of `--format json`."""
    return [each["rule"] for each in json.loads(result.stdout)["findings"]]


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with one bad file, where the command runs."""
    (tmp_path / "tasks.py").write_text(BAD, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_command_tells_place_rule_reason_and_page(project: Path) -> None:
    """As text; the exit code is that of the worst."""
    result = invoked(project)

    assert result.exit_code == Severity.CRITICAL.exit_code
    assert "CRITICAL  blocking-result" in result.stdout
    assert "tasks.py:5:13: Task total waits for the result of another task." in result.stdout
    assert "docs/lint/blocking-result.md" in result.stdout
    assert "metric celery_task_blocked" in " ".join(result.stdout.split())


def test_the_source_is_not_imported(project: Path) -> None:
    """Code that would run on import does not."""
    (project / "harmful.py").write_text("import celery, pathlib\npathlib.Path('ran').touch()\nraise SystemExit(9)\n")

    assert invoked(project).exit_code == 4
    assert not (project / "ran").exists()


@pytest.mark.parametrize(
    ("arguments", "exit_code"),
    [
        ((), 4),
        (("--ignore", "blocking-result"), 0),
        (("--ignore", "blocking-result", "--fail-on", "info"), 3),
        (("--select", "delay-in-loop"), 0),
        (("--exclude", "tasks.py"), 0),
    ],
)
def test_the_exit_code_is_by_severity(project: Path, arguments: tuple[str, ...], exit_code: int) -> None:
    """What is worth knowing only does not fail a build, unless that is wished."""
    assert invoked(project, *arguments).exit_code == exit_code


def test_json_and_sarif_name_the_place(project: Path) -> None:
    """For scripts and for code scanning."""
    told = json.loads(invoked(project, "--format", "json").stdout)
    log = json.loads(invoked(project, "--format", "sarif").stdout)
    (run,) = log["runs"]

    assert told["findings"][0]["place"] == {
        "path": "tasks.py",
        "line": 5,
        "column": 13,
        "end_line": 5,
        "end_column": 37,
    }
    jsonschema.Draft202012Validator(SCHEMA).validate(log)
    assert [each["id"] for each in run["tool"]["driver"]["rules"]] == list(checks())
    location = run["results"][0]["locations"][0]["physicalLocation"]
    assert location["artifactLocation"]["uri"] == "tasks.py"
    assert location["region"]["startLine"] == 5


@pytest.mark.usefixtures("project")
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("no/such/path",), "does not exist"),
        ((".", "--select", "no-such-rule"), "There is no rule 'no-such-rule'. The rules are: blocking-result,"),
        ((".", "--config", "nowhere.toml"), "nowhere.toml cannot be read"),
    ],
)
def test_what_is_asked_wrongly_is_refused(arguments: tuple[str, ...], message: str) -> None:
    """With exit code 2."""
    result = invoked(*arguments)

    assert result.exit_code == 2
    assert message in result.stderr


def test_pyproject_sets_the_options_and_flags_go_before_it(project: Path) -> None:
    """The one at or above the path, however deep that is."""
    (project / "pyproject.toml").write_text(
        '[tool.celery-observe.lint]\nignore = ["blocking-result"]\nfail-on = "info"\n'
    )
    (project / "deep" / "er").mkdir(parents=True)
    (project / "deep" / "er" / "tasks.py").write_text(BAD)

    from_file = invoked("deep/er", "--format", "json")
    from_flags = invoked("deep/er", "--format", "json", "--ignore", "delay-in-loop")

    assert (from_file.exit_code, rules(from_file)) == (3, ["delay-in-loop"])
    assert (from_flags.exit_code, rules(from_flags)) == (4, ["blocking-result"])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("ignore = 1", "Expected `array`"),
        ("selekt = []", "unknown field `selekt`"),
        ('fail-on = "error"', "Invalid enum value 'error'"),
        ('per-file-ignores = { "a" = ["nope"] }', "There is no rule 'nope'"),
        ("visibility-timeout = true", "Expected `float"),
        ("x = = 1", "is not valid TOML"),
    ],
)
def test_a_wrong_option_in_pyproject_is_named(tmp_path: Path, text: str, message: str) -> None:
    """With the file."""
    (tmp_path / "pyproject.toml").write_text(f"[tool.celery-observe.lint]\n{text}\n")

    with pytest.raises(LintError, match="(?i)" + message.replace("`", ".")):
        load(tmp_path, {})


def test_other_tools_may_say_what_they_like_in_pyproject(tmp_path: Path) -> None:
    """No section, no options."""
    (tmp_path / "pyproject.toml").write_text("[tool.other]\nx = 1\n")

    assert load(tmp_path, {}) == Options()


def test_rules_can_be_left_out_for_some_files() -> None:
    """By a pattern of the path or of its end."""
    files = {"shop/tasks.py": BAD, "tests/tasks.py": BAD.replace("total", "sum_up")}

    everywhere = found(files, ignore=("delay-in-loop",), per_file_ignores={"tests/*": ("blocking-result",)})

    assert everywhere == ["shop/tasks.py:5 blocking-result"]


@pytest.mark.parametrize(
    ("comment", "is_found"),
    [
        ("# celery-observe: ignore[blocking-result]", False),
        ("#celery-observe:ignore[delay-in-loop, blocking-result] - they are on another worker", False),
        ("# celery-observe: ignore", False),
        ("# noqa  # celery-observe: ignore[blocking-result]", False),
        ("# celery-observe: ignore[delay-in-loop]", True),
        ("# celery-observe: ignore[]", True),
        ("# celery-observe", True),
    ],
)
def test_a_comment_silences_its_line(comment: str, is_found: bool) -> None:
    """For the rules that it names, or for all."""
    text = f"""
        from celery import shared_task
        @shared_task
        def total(x):
            return x.delay(
                1
            ).get()  {comment}
        """

    assert found({"tasks.py": text}) == (["tasks.py:5 blocking-result"] if is_found else [])


def test_a_string_silences_nothing() -> None:
    """Only a comment is one."""
    text = """
        from celery import shared_task
        @shared_task
        def total(x):
            return x.delay("# celery-observe: ignore").get()
        """

    assert found({"tasks.py": text}) == ["tasks.py:5 blocking-result"]


@pytest.mark.parametrize(
    "content",
    [
        b"from celery import\n",
        b"# celery\nprint 'python 2'\n",
        b"# celery\x00\n",
        b"# -*- coding: no-such-encoding -*-\n# celery\n",
        b"# celery\nname = '\xff\xfe'\n",
        b"# celery\nx = " + b"(" * 5000 + b")" * 5000,
        b"# celery\nx = " + b"-" * 5000 + b"1",
        b"# celery\nx = a" + b".a" * 2000,
        b"# celery\nx = " + b"1 + " * 2000 + b"1",
    ],
    ids=["syntax", "python 2", "null", "encoding", "utf-8", "parentheses", "signs", "attributes", "sum"],
)
def test_a_broken_file_is_reported_and_the_others_are_checked(project: Path, content: bytes) -> None:
    """It does not fail the build by itself."""
    (project / "broken.py").write_bytes(content)

    result = invoked(project, "--format", "json")

    assert sorted(rules(result)) == ["blocking-result", "delay-in-loop", "unreadable-file"]
    assert '"path": "broken.py"' in result.stdout
    assert invoked("broken.py").exit_code == 0


def test_source_in_other_encodings_is_read(project: Path) -> None:
    """As its first line says; with a byte order mark; with line ends of all kinds."""
    latin = "# -*- coding: latin-1 -*-\n# é\n" + BAD
    (project / "tasks.py").write_bytes(latin.encode("latin-1"))
    (project / "marked.py").write_bytes(b"\xef\xbb\xbf" + BAD.replace("\n", "\r\n").encode())

    assert rules(invoked(project, "--format", "json")).count("blocking-result") == 2


def test_folders_that_are_not_the_projects_are_left_out(tmp_path: Path) -> None:
    """Hidden ones, virtual environments, caches; links are not followed, so there are no circles."""
    for name in ("shop", ".hidden", "venv", "node_modules", "__pycache__", "legacy"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "tasks.py").touch()
    (tmp_path / "venv" / "pyvenv.cfg").touch()
    (tmp_path / "shop" / "circle").symlink_to(tmp_path)
    (tmp_path / "shop" / "notes.txt").touch()
    os.mkfifo(tmp_path / "shop" / "pipe.py")

    paths = [Path(each.path) for each in sources([tmp_path, tmp_path / "shop" / "tasks.py"], ["legacy"])]

    assert paths == [tmp_path / "shop" / "tasks.py"]


def test_what_is_too_large_or_gone_is_reported(tmp_path: Path) -> None:
    """A file is not read without end, and one that cannot be read is no crash."""
    large = tmp_path / "large.py"
    with large.open("wb") as file:
        file.truncate(LARGEST + 1)
    (tmp_path / "gone.py").symlink_to(tmp_path / "nowhere.py")
    (tmp_path / "forbidden.py").symlink_to("/proc/self/mem")

    problems = {Path(each.path).name: each.problem for each in sources([tmp_path])}

    assert problems["large.py"] == f"larger than {LARGEST} bytes"
    assert problems.get("forbidden.py", "not read")
    assert "gone.py" not in problems


def test_a_module_has_the_name_of_its_packages(tmp_path: Path) -> None:
    """As far up as there is an `__init__.py`."""
    package = tmp_path / "src" / "shop" / "orders"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (package.parent / "__init__.py").touch()

    assert module_name(package / "tasks.py") == "shop.orders.tasks"
    assert module_name(package / "__init__.py") == "shop.orders"
    assert module_name(tmp_path / "script.py") == "script"


def test_a_finding_shows_no_secret(tmp_path: Path) -> None:
    """Nothing of the arguments of a call is quoted."""
    text = dedent("""
        import requests
        from celery import shared_task
        @shared_task
        def send():
            requests.get("https://user:hunter2@bank", headers={"Authorization": "hunter2"})
        """)
    (tmp_path / "tasks.py").write_text(text, encoding="utf-8")

    printed = "".join(invoked(tmp_path, "--format", form).output for form in ("text", "json", "sarif"))

    assert "missing-timeout" in printed
    assert "hunter2" not in printed
