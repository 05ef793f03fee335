"""Any environment and any `.env`: settings, or one line for each variable that is wrong."""

import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from unittest.mock import patch

from dotenv import dotenv_values
from hypothesis import assume, given
from hypothesis import strategies as st

from fuzz.garbage import SECRET, examples
from peekaping_producer.config.loading import (
    load_redis_settings,
    load_settings,
    log_settings,
    masked,
    unknown_variables,
)
from peekaping_producer.config.origins import shown_settings
from peekaping_producer.config.settings import SECRETS, Settings
from peekaping_producer.errors import ConfigurationError

NAMES = sorted(map(str.upper, Settings.model_fields))
SECRET_NAMES = sorted(map(str.upper, SECRETS))
URLS = [
    f"redis://:{SECRET}@cache:6379/0", f"rediss://me:{SECRET}@cache", f"unix://me:{SECRET}@/run/redis.sock?db=1",
    f"http://me:{SECRET}@host/", f"redis://me:{SECRET}@[::1", f"redis://me:{SECRET}@h:99999999", f"redis://%ff:{SECRET}@h",
]  # fmt: skip
values = st.text(max_size=12) | st.sampled_from(
    ["on", "off", "5432", "0", "-1", "9" * 5000, "postgres", "sqlite", "mongo", "mysql", "localhost", "/run/x",
     "a,b:1,[::1]:2", "::1", "Europe/Berlin", "../../etc/passwd", "verify-full", "'quoted'", '"',
     "\udcff", "x" * 300, ".", *URLS]
)  # fmt: skip
environments = st.dictionaries(st.sampled_from(NAMES), values, max_size=8)
VALID = {"DB_TYPE": "sqlite", "DB_NAME": "/data/peekaping.db"}


def accepted(text: str) -> bool:
    """Return whether the system takes this for the value of a variable."""
    return "\0" not in text


def load_and_look(env_file: Path, environment: dict[str, str]) -> None:
    """Load the settings, and look for secrets in all that may be shown of them."""
    with patch.dict(os.environ, environment, clear=True):
        log_settings(env_file)
        for load in (load_settings, load_redis_settings):
            try:
                settings = load(env_file)
            except ConfigurationError as error:
                check_problems(error)
            else:
                assert SECRET not in f"{masked(settings)} {settings!r} {settings}"
                if isinstance(settings, Settings):
                    assert SECRET not in str(shown_settings(settings, env_file))
        with suppress(ConfigurationError):
            assert SECRET not in str(unknown_variables(env_file))


def check_problems(error: ConfigurationError) -> None:
    assert error.problems
    assert all(problem and "\n" not in problem for problem in error.problems)
    assert SECRET not in f"{error!r} {error} {error.__cause__!r} {error.__context__!r}"


@given(environments, st.sampled_from(SECRET_NAMES), st.booleans())
@examples(60)
def test_an_environment_is_accepted_or_refused_in_one_line_each(
    environment: dict[str, str], secret: str, based: bool
) -> None:
    found = (VALID if based else {}) | {secret: SECRET} | environment
    load_and_look(Path("/nonexistent/.env"), {name: text for name, text in found.items() if accepted(text)})


lines = (
    st.text(max_size=30)
    | st.builds(
        "{}{}={}{}".format,
        st.sampled_from(["", "export ", " ", "#"]),
        st.sampled_from([*NAMES, "OTHER"]),
        st.sampled_from(["", '"', "'", " ", "${OTHER}"]),
        values,
    )
    | st.sampled_from(SECRET_NAMES).map(lambda name: f"{name}={SECRET}")
)


contents = st.lists(lines, max_size=6).map(lambda some: "\n".join(some).encode(errors="surrogatepass"))


@given(content=contents | st.binary(max_size=60))
@examples(60)
def test_an_env_file_is_accepted_or_refused_in_one_line_each(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / ".env"
    file.write_bytes(content)
    # A quote that is left open makes the secret a part of another variable's value.
    assume(not any(SECRET in (value or "") for name, value in _read(file).items() if name not in SECRET_NAMES))
    load_and_look(file, VALID)


def _read(file: Path) -> Mapping[str, str | None]:
    try:
        return dotenv_values(file, encoding="utf-8")
    except UnicodeDecodeError:
        return {}
