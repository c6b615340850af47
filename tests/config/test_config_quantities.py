"""Times, sizes and other quantities."""

import math
import signal
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jlabd.config import quantities


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        (0, 0),
        (90, 90),
        (1.5, 1.5),
        ("0", 0),
        ("90", 90),
        ("1.5", 1.5),
        ("500ms", 0.5),
        ("90s", 90),
        ("5min", 300),
        ("5m", 300),
        ("2h", 7200),
        ("1d", 86400),
        ("1h30min", 5400),
        ("1h 30min", 5400),
        ("365d", 365 * 86400),
    ],
)
def test_times(written, expected):
    """A time is a number of seconds or a text with units."""
    assert quantities.seconds(written) == pytest.approx(expected)


@pytest.mark.parametrize(
    "written",
    [
        *(-1, -0.1, math.nan, math.inf, -math.inf, 10**400, "9" * 5000, "366d", True, False, None, [], {}),
        *("", " ", "s", "5 weeks", "-1s", "1e3", "nan", "inf", "5min30", "٥s", "1s\n", "1s;", "1.s", ".5s"),
    ],
)
def test_what_is_not_a_time(written):
    """Whatever is no time is refused in a sentence."""
    with pytest.raises(ValueError, match=r"is not a time, write|is out of range, a time is"):
        quantities.seconds(written)


@pytest.mark.parametrize("written", [0, "0", "0s", "0.1ms"])
def test_times_that_must_pass(written):
    """Time-outs of nothing are refused where they would fail every time."""
    with pytest.raises(ValueError, match="too short"):
        quantities.positive_seconds(written)
    assert quantities.positive_seconds("1ms") == pytest.approx(0.001)


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        (0, 0),
        (4096, 4096),
        ("4096", 4096),
        ("1K", 1024),
        ("1k", 1024),
        ("100m", 100 * 2**20),
        ("512M", 512 * 2**20),
        ("4G", 4 * 2**30),
        ("1.5G", 3 * 2**29),
        ("4GiB", 4 * 2**30),
        ("2T", 2 * 2**40),
    ],
)
def test_sizes(written, expected):
    """A size is a number of bytes or a text with a binary unit."""
    assert quantities.size(written) == expected


@pytest.mark.parametrize("written", [-1, 1.5, True, "", "M", "-1M", "4X", "4 GB", "1e9", 2**60, 10**400, "9999T", []])
def test_what_is_not_a_size(written):
    """Whatever is no size is refused in a sentence."""
    with pytest.raises(ValueError, match=r"is not a size, write|is out of range, a size is"):
        quantities.size(written)


@given(st.one_of(st.text(), st.integers(), st.floats(), st.booleans(), st.none(), st.lists(st.integers())))
def test_every_quantity_takes_or_refuses(value):
    """No value of any type makes a parser do anything but return or raise ValueError."""
    parsers = [quantities.seconds, quantities.positive_seconds, quantities.size, quantities.log_size, quantities.cores]
    parsers += [quantities.umask, quantities.stop_signal, quantities.factor, quantities.whole(1, 5), quantities.flag]
    for parse in parsers:
        with suppress(ValueError):
            parse(value)


@pytest.mark.parametrize(("written", "expected"), [("200%", 2.0), ("50%", 0.5), ("1%", 0.01), ("12.5 %", 0.125)])
def test_quotas(written, expected):
    """A quota is percents of one core."""
    assert quantities.cores(written) == expected


@pytest.mark.parametrize("written", [2, "2", "0%", "%", "-5%", True, "200"])
def test_what_is_not_a_quota(written):
    """A quota without percents, or of nothing, is refused."""
    with pytest.raises(ValueError, match=r"is not a quota|is out of range"):
        quantities.cores(written)


@pytest.mark.parametrize(("written", "expected"), [("0077", 0o77), ("077", 0o77), ("0000", 0), ("0777", 0o777)])
def test_umasks(written, expected):
    """A umask is octal digits in quotes."""
    assert quantities.umask(written) == expected


@pytest.mark.parametrize("written", ["999", "0o77", "7777", "", "77777", 77, 0o77, True, "-077", "077\n"])
def test_what_is_not_a_umask(written):
    """A umask that is a number (decimal or octal?) or has other digits is refused with the right form."""
    with pytest.raises(ValueError, match='is not a umask, write octal digits like "0077"'):
        quantities.umask(written)


@pytest.mark.parametrize(
    ("written", "expected"), [("TERM", 15), ("SIGTERM", 15), ("term", 15), (15, 15), ("QUIT", signal.SIGQUIT), (1, 1)]
)
def test_signals(written, expected):
    """A signal is a name, with or without SIG, or a number."""
    assert quantities.stop_signal(written) == expected


@pytest.mark.parametrize("written", ["INT", "SIGINT", 2])
def test_sigint_is_refused(written):
    """SIGINT is refused, and it is said why: kernels would be left behind."""
    with pytest.raises(ValueError, match="kernels"):
        quantities.stop_signal(written)


@pytest.mark.parametrize("written", ["", "FOO", 0, 65, -1, True, 1.5, "SIG", "STOP", "CHLD", "CONT", 19])
def test_what_is_not_a_stop_signal(written):
    """Signals that do not exist, or that end nothing, are refused."""
    with pytest.raises(ValueError, match=r"is not a signal|does not end a program"):
        quantities.stop_signal(written)


@pytest.mark.parametrize("written", [0.9, 10.1, True, "2", math.nan, math.inf])
def test_what_is_not_a_factor(written):
    """A factor is a number from 1 to 10."""
    with pytest.raises(ValueError, match="from 1 to 10"):
        quantities.factor(written)
    assert (quantities.factor(1), quantities.factor(2.5), quantities.factor(10)) == (1, 2.5, 10)


@pytest.mark.parametrize("written", ["true", 1, 0, "yes", None])
def test_what_is_not_a_flag(written):
    """Neither texts nor numbers are booleans."""
    with pytest.raises(ValueError, match="neither true nor false"):
        quantities.flag(written)
