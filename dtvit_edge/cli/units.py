"""Sizes and times as people say them: `129 MiB`, `2 min 5 s`."""

from __future__ import annotations

_SIZES = ("KiB", "MiB", "GiB", "TiB")


def size(count: float) -> str:
    """Bytes in the unit that leaves one to three digits before the point, at most three in all: `12.9 MiB`."""
    if count < 1024:
        return f"{count:.0f} bytes"
    value = float(count)
    for unit in _SIZES:
        value /= 1024
        # What would be rounded to 1024 belongs to the next unit.
        if value < 1023.5 or unit == _SIZES[-1]:
            break
    return f"{_three_digits(value)} {unit}"


def duration(seconds: float) -> str:
    """Seconds in at most two units: `850 µs`, `12.3 ms`, `9.4 s`, `2 min 5 s`, `3 h 20 min`, `2 d 4 h`."""
    if seconds < 0:
        raise ValueError(f"a duration of {seconds} s")
    if seconds < 0.9995e-3:
        return f"{_three_digits(seconds * 1e6)} µs" if seconds else "0 s"
    if seconds < 0.9995:
        return f"{_three_digits(seconds * 1e3)} ms"
    if seconds < 59.95:
        return f"{_three_digits(seconds)} s"
    # Each is rounded before it is compared: 3,599.7 s are an hour, not 60 minutes.
    if (whole := round(seconds)) < 3600:
        return _two_units(whole, 60, "min", "s")
    if (minutes := round(seconds / 60)) < 24 * 60:
        return _two_units(minutes, 60, "h", "min")
    return _two_units(round(seconds / 3600), 24, "d", "h")


def _two_units(count: int, per: int, large: str, small: str) -> str:
    most, least = divmod(count, per)
    return f"{most} {large} {least} {small}" if least else f"{most} {large}"


def _three_digits(value: float) -> str:
    if value >= 99.95:
        return f"{value:.0f}"
    return f"{value:.{1 if value >= 9.995 else 2}f}".rstrip("0").rstrip(".")
