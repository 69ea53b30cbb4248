"""Whatever is given, settings load or are refused in one line, and no password is shown."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from celery_observe.errors import SettingsError
from celery_observe.masking import mask_text, mask_url
from celery_observe.settings import SETTINGS, load

NO_DEADLINE = settings(deadline=None)  # a slow machine is no failure

PASSWORD = "hunter2"
TEXT = st.text(max_size=30) | st.sampled_from(["", "=", "a=", "=b", "a=b=c", "[", "{}", '["x"]', '{"a": "b"}', "1e999"])
FLAGS = st.dictionaries(st.sampled_from(sorted(SETTINGS)), TEXT | st.booleans() | st.tuples(TEXT, TEXT))
ENVIRON = st.dictionaries(st.sampled_from([setting.env for setting in SETTINGS.values()]), TEXT)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=5,
)

SCHEME = st.sampled_from(["redis", "rediss", "sentinel", "amqp", "amqps", "sqla+mysql", "nope", "", "1"])
PART = st.text(alphabet="abcXYZ019-._~:/?#[]@!$&'()*+,;=% \"<>\\", max_size=8)


def outcome(flags: dict[str, Any], environ: dict[str, str]) -> str:
    """Return what is shown of settings or of their refusal."""
    try:
        return repr(load(flags, environ))
    except SettingsError as refused:
        return str(refused)


@NO_DEADLINE
@given(FLAGS, ENVIRON)
def test_any_flags_and_environment_load_or_are_refused(flags: dict[str, Any], environ: dict[str, str]) -> None:
    """Nothing but SettingsError is raised."""
    assert outcome(flags, environ)


@NO_DEADLINE
@given(st.sampled_from(sorted(SETTINGS)), JSON)
def test_any_value_of_a_file_loads_or_is_refused(name: str, value: object) -> None:
    """TOML has values of every type at every key; here they come as flags, which are converted alike."""
    assert outcome({"broker": ("memory://",), name: value}, {})


@NO_DEADLINE
@given(SCHEME, PART, PART, PART)
def test_a_password_in_any_broker_url_is_not_shown(scheme: str, user: str, around: str, rest: str) -> None:
    """The password is percent-encoded, as it must be; what stands around it may be anything."""
    url = f"{scheme}://{quote(user, safe='')}:{quote(around, safe='')}{PASSWORD}@h{rest}"

    assert PASSWORD not in outcome({"broker": (url,)}, {})
    assert PASSWORD not in mask_url(url)


@NO_DEADLINE
@given(SCHEME, PART, PART)
def test_a_password_that_is_not_percent_encoded_is_not_shown(scheme: str, before: str, after: str) -> None:
    """People forget to; everything up to the last @ is taken for the password."""
    url = f"{scheme}://:{before}{PASSWORD}{after}@h:6379/0"

    assert PASSWORD not in outcome({"broker": (url,)}, {})


@NO_DEADLINE
@given(PART, PART)
def test_a_password_among_the_parameters_is_not_shown(before: str, after: str) -> None:
    """`?password=` is where some transports take it from."""
    url = f"redis://h/0?{quote(before)}=1&password={PASSWORD}{quote(after)}&x=y"

    assert PASSWORD not in outcome({"broker": (url,)}, {})
    assert PASSWORD not in mask_text(f"cannot connect to {url}: refused")


@NO_DEADLINE
@given(JSON)
def test_a_password_among_transport_options_is_not_shown(value: object) -> None:
    """At any depth, whatever stands beside it."""
    nested = msgspec.json.encode(
        {"sentinel_kwargs": [{"password": PASSWORD, "x": value}]},
    ).decode()

    assert PASSWORD not in outcome({"broker": ("redis://h",), "transport_option": (f"a={nested}",)}, {})
    assert PASSWORD not in outcome({"broker": ("redis://h",)}, {"CELERY_OBSERVE_TRANSPORT_OPTION": nested})
