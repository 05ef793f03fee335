"""Log lines: their form in each mode, and that no text written to them raises."""

import io
import json
import logging
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from pydantic import SecretStr

from peekaping_producer.clock import now_utc
from peekaping_producer.config.settings import LogLevel, Mode
from peekaping_producer.model.monitor import Proxy
from peekaping_producer.observe.log import Logger, capture_stdlib_logging, make_logger
from support.log_capture import CapturedLog

TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")
ANSI = "\x1b["


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def _loop() -> dict[str, Any]:
    loop: dict[str, Any] = {}
    loop["loop"] = loop
    return loop


ODD: dict[str, Callable[[], object]] = {
    "huge-int": lambda: 2**70,
    "nan": lambda: float("nan"),
    "infinity": lambda: -float("inf"),
    "surrogate": lambda: "a\udcffb",
    "surrogate-key": lambda: {"\ud800": 1},
    "loop": _loop,
    "tuple-key": lambda: {(1, 2): 3},
    "bytes": lambda: b"\xff\x00",
    "set": lambda: {1},
    "line-ends": lambda: "a\nb\rc\x0bd\x1ce\x85f\u2028g\u2029h",
    "nul": lambda: "\x00",
    "controls": lambda: f"{ANSI}31m\x9b2J",
    "long": lambda: "x" * 100_000,
    "error": lambda: ValueError("\udcff"),
    "none": lambda: None,
}


def _line(mode: Mode, write: Callable[[Logger], object]) -> str:
    """Return the one line that `write` makes."""
    stream = io.StringIO()
    write(make_logger(mode, LogLevel.DEBUG, "svc", stream))
    text = stream.getvalue()
    assert text.endswith("\n")
    (line,) = text.splitlines()
    return line


def _json(write: Callable[[Logger], object]) -> dict[str, Any]:
    line = json.loads(_line(Mode.PROD, write))
    assert isinstance(line, dict)
    return line


def test_a_line_in_prod_is_json_with_the_four_fields_first() -> None:
    line = _json(lambda log: log.info("batch done", checks=3, late_ms=1.5, ok=True, ids=["a"], none=None))
    assert TIME.fullmatch(line.pop("time"))
    assert list(line.items()) == [
        ("level", "info"),
        ("event", "batch done"),
        ("svc", "svc"),
        ("checks", 3),
        ("late_ms", 1.5),
        ("ok", True),
        ("ids", ["a"]),
        ("none", None),
    ]


def test_the_time_is_now() -> None:
    before = now_utc().isoformat(timespec="milliseconds")
    time = _json(lambda log: log.info("now"))["time"]
    assert before[:23] <= time[:23] <= now_utc().isoformat(timespec="milliseconds")[:23]


def test_text_beyond_ascii_stays_readable() -> None:
    assert "Zürich 😀" in _line(Mode.PROD, lambda log: log.info("Zürich 😀"))
    assert "Zürich 😀" in _line(Mode.TEST, lambda log: log.info("Zürich 😀"))


@pytest.mark.parametrize("mode", [Mode.DEV, Mode.TEST])
def test_a_readable_line_has_the_four_fields(mode: Mode) -> None:
    time, rest = _line(mode, lambda log: log.warning("batch done", checks=3)).split(" ", 1)
    assert TIME.fullmatch(time)
    assert re.fullmatch(r"\[warning *\] batch done +checks=3 svc=svc", rest)


@pytest.mark.parametrize(
    ("mode", "stream", "no_color", "coloured"),
    [
        (Mode.DEV, Terminal, None, True),
        (Mode.DEV, Terminal, "", True),
        (Mode.DEV, Terminal, "1", False),
        (Mode.DEV, io.StringIO, None, False),
        (Mode.TEST, Terminal, None, False),
        (Mode.PROD, Terminal, None, False),
    ],
)
def test_colours_only_in_dev_on_a_terminal(
    monkeypatch: pytest.MonkeyPatch, mode: Mode, stream: type[io.StringIO], no_color: str | None, coloured: bool
) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    if no_color is not None:
        monkeypatch.setenv("NO_COLOR", no_color)
    out = stream()
    make_logger(mode, LogLevel.DEBUG, "svc", out).info("hello")
    assert (ANSI in out.getvalue()) is coloured


@pytest.mark.parametrize(
    ("level", "written"),
    [
        (LogLevel.DEBUG, ["debug", "info", "warning", "error"]),
        (LogLevel.INFO, ["info", "warning", "error"]),
        (LogLevel.WARNING, ["warning", "error"]),
        (LogLevel.ERROR, ["error"]),
    ],
)
def test_the_level_decides_what_is_written(level: LogLevel, written: list[str]) -> None:
    stream = io.StringIO()
    log = make_logger(Mode.PROD, level, "svc", stream)
    log.debug("a line")
    log.info("a line")
    log.warning("a line")
    log.error("a line")
    assert [json.loads(line)["level"] for line in stream.getvalue().splitlines()] == written


def test_two_loggers_share_nothing() -> None:
    first, second = io.StringIO(), io.StringIO()
    one = make_logger(Mode.PROD, LogLevel.ERROR, "one", first)
    two = make_logger(Mode.TEST, LogLevel.DEBUG, "two", second)
    one.error("mine")
    two.info("yours")
    assert json.loads(first.getvalue())["svc"] == "one"
    assert "yours" in second.getvalue()
    assert "yours" not in first.getvalue()


def test_bound_fields_are_on_every_line_of_the_new_logger_only() -> None:
    assert _json(lambda log: log.bind(worker=3).info("claimed"))["worker"] == 3
    assert "worker" not in _json(lambda log: (log.bind(worker=3), log.info("claimed")))


def test_a_percent_sign_is_just_text() -> None:
    assert _json(lambda log: log.info("100%d", share="%s"))["event"] == "100%d"


@pytest.mark.parametrize("mode", list(Mode))
@pytest.mark.parametrize("name", list(ODD))
def test_an_odd_value_loses_no_line_and_affects_no_other_field(mode: Mode, name: str) -> None:
    line = _line(mode, lambda log: log.info("an event", odd=ODD[name](), good="Zürich"))
    assert "an event" in line
    assert "Zürich" in line
    assert line.isprintable()
    line.encode()


@pytest.mark.parametrize("name", list(ODD))
def test_an_odd_value_leaves_valid_json(name: str) -> None:
    def no_constant(text: str) -> None:
        raise AssertionError(text)

    text = _line(Mode.PROD, lambda log: log.info("an event", odd=ODD[name]()))
    line = json.loads(text, parse_constant=no_constant)
    assert (line["level"], line["event"], line["svc"]) == ("info", "an event", "svc")
    assert TIME.fullmatch(line["time"])
    assert "odd" in line


@pytest.mark.parametrize("mode", list(Mode))
def test_an_odd_event_is_one_line_too(mode: Mode) -> None:
    event = f"first\nsecond \udcff {ANSI}31m"
    assert "first" in _line(mode, lambda log: log.info(event))


@pytest.mark.parametrize("mode", list(Mode))
def test_no_value_shows_its_secrets(mode: Mode) -> None:
    proxy = Proxy("id", "http", "host", 8080, auth=True, username="hush-user", password="hush-pass")
    line = _line(mode, lambda log: log.info("proxy", proxy=proxy, all=[proxy], secret=SecretStr("hush")))
    assert "hush" not in line
    assert "Proxy(id='id')" in line


def _fail() -> None:
    raise LookupError("the reason")


def _log_failure(log: Logger) -> None:
    try:
        _fail()
    except LookupError:
        log.exception("it failed")


def test_an_exception_is_one_field_of_json() -> None:
    line = _json(_log_failure)
    assert line["exception"].startswith("Traceback")
    assert line["exception"].endswith("LookupError: the reason")
    assert line["level"] == "error"
    assert "exc_info" not in line


def test_an_exception_follows_a_readable_line() -> None:
    stream = io.StringIO()
    _log_failure(make_logger(Mode.TEST, LogLevel.DEBUG, "svc", stream))
    lines = stream.getvalue().splitlines()
    assert "it failed" in lines[0]
    assert lines[-1] == "LookupError: the reason"


def _written(encoding: str, errors: str, mode: Mode, event: str) -> bytes:
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding=encoding, errors=errors)
    make_logger(mode, LogLevel.DEBUG, "svc", stream).info(event)
    return raw.getvalue()


@pytest.mark.parametrize(
    ("encoding", "errors"),
    [("ascii", "strict"), ("latin-1", "strict"), ("utf-8", "strict"), ("utf-8", "surrogateescape")],
)
def test_json_survives_every_encoding_of_standard_output(encoding: str, errors: str) -> None:
    line = json.loads(_written(encoding, errors, Mode.PROD, "é 😀").decode(encoding))
    assert line["event"] == "é 😀"
    assert json.loads(_written(encoding, errors, Mode.PROD, "\udcff"))["event"] == "\udcff"


def test_a_readable_line_survives_ascii() -> None:
    assert b"\\u00e9 \\ud83d\\ude00" in _written("ascii", "strict", Mode.TEST, "é 😀")


class Full(io.StringIO):
    """A stream whose device is full until it is emptied."""

    full = True

    def write(self, text: str) -> int:
        if self.full:
            raise OSError(28, "No space left on device")
        return super().write(text)


def test_a_line_that_can_not_be_written_is_dropped_and_the_next_one_tried() -> None:
    stream = Full()
    log = make_logger(Mode.PROD, LogLevel.DEBUG, "svc", stream)
    log.info("lost")
    stream.full = False
    log.info("kept")
    assert [json.loads(line)["event"] for line in stream.getvalue().splitlines()] == ["kept"]


@pytest.mark.parametrize("mode", list(Mode))
def test_a_closed_stream_drops_lines(mode: Mode) -> None:
    stream = io.StringIO()
    before = make_logger(mode, LogLevel.DEBUG, "svc", stream)
    before.info("kept")
    kept = stream.getvalue()
    stream.close()
    before.info("lost")
    make_logger(mode, LogLevel.DEBUG, "svc", stream).info("lost too")
    assert "kept" in kept


SCRIPT = """
import sys
from peekaping_producer.config.settings import LogLevel, Mode
from peekaping_producer.observe.log import logging_to
with logging_to(sys.stdout, Mode(sys.argv[1]), LogLevel.DEBUG, "svc") as log:
    log.info("first")
    sys.stdin.read()
    for number in range(1000):
        log.info("nobody reads this", number=number)
"""


@pytest.mark.parametrize("mode", ["prod", "dev"])
def test_a_broken_pipe_ends_neither_the_process_nor_its_exit_code(mode: str) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", SCRIPT, mode],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        assert b"first" in process.stdout.readline()
        process.stdout.close()
        process.stdin.close()
        assert process.stderr.read() == b""
        assert process.wait(timeout=30) == 0


@pytest.mark.parametrize("mode", ["prod", "dev"])
def test_a_process_started_without_standard_output_works(mode: str) -> None:
    done = subprocess.run(
        ["/bin/sh", "-c", 'exec "$@" >&-', "sh", sys.executable, "-c", SCRIPT, mode],
        stdin=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        check=False,
        timeout=30,
        env=os.environ,
    )
    assert (done.returncode, done.stderr) == (0, b"")


@contextmanager
def _captured() -> Iterator[CapturedLog]:
    """Capture inside the test: pytest hangs handlers of its own on the root logger between a fixture and its test."""
    captured = CapturedLog("svc")
    with capture_stdlib_logging(captured.log):
        yield captured


def test_library_warnings_become_lines_of_ours() -> None:
    fields = ("level", "event", "message", "logger", "svc")
    with _captured() as captured:
        logging.getLogger("sqlalchemy.pool").warning("lost %s of %d", "one", 3)
        logging.getLogger("asyncio").error("slow")
        logging.getLogger("uvicorn").info("not this one")
        logging.getLogger("uvicorn").critical("down")
    assert [tuple(line[field] for field in fields) for line in captured.lines] == [
        ("warning", "library warning", "lost one of 3", "sqlalchemy.pool", "svc"),
        ("error", "library error", "slow", "asyncio", "svc"),
        ("error", "library error", "down", "uvicorn", "svc"),
    ]


def test_a_library_exception_is_one_field() -> None:
    with _captured() as captured:
        try:
            _fail()
        except LookupError:
            logging.getLogger("asyncio").exception("task failed")
    (line,) = captured.lines
    assert line["exception"].endswith("LookupError: the reason")


@pytest.mark.parametrize(("level", "name"), [(35, "warning"), (45, "error"), (99, "error")])
def test_a_level_of_a_librarys_own_is_rounded_down(level: int, name: str) -> None:
    with _captured() as captured:
        logging.getLogger("theirs").log(level, "hm")
    assert [line["level"] for line in captured.lines] == [name]


def test_a_library_message_whose_arguments_do_not_fit_is_logged_without_them() -> None:
    with _captured() as captured:
        logging.getLogger("theirs").warning("%d", "not a number")
    assert [line["message"] for line in captured.lines] == ["%d"]


def _inside_capture(library: logging.Logger) -> None:
    with capture_stdlib_logging(CapturedLog("svc").log):
        assert library.isEnabledFor(logging.WARNING)
        assert not library.isEnabledFor(logging.INFO)
        _fail()


def test_the_librarys_logging_is_restored() -> None:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    library = logging.getLogger("theirs.level")
    root.setLevel(logging.INFO)
    try:
        assert library.isEnabledFor(logging.INFO)
        with pytest.raises(LookupError):
            _inside_capture(library)
        assert (root.handlers, root.level) == (handlers, logging.INFO)
        assert library.isEnabledFor(logging.INFO)
    finally:
        root.setLevel(level)
