"""What `tune` prints of what it measured, and `inspect` of a device profile."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from dtvit_edge.cli.terminal import echo, echo_lines, show, table
from dtvit_edge.spec import NOTICE

if TYPE_CHECKING:
    from dtvit_edge.bundle import Bundle
    from dtvit_edge.bundle.device_profile import DeviceProfile


def tuned(profile: DeviceProfile, written: Path | None, *, as_json: bool) -> None:
    """The result of `tune`: every configuration with its time, the fastest first, and what was chosen."""
    if as_json:
        echo_lines(profile.to_json())
        return
    grid = table("configuration", "ms a slice", "95 % interval", "rounds", "largest |logit difference|", "")
    for m in profile.measured:
        interval = f"{m.low_ms:.3g} to {m.high_ms:.3g}" if m.rounds > 1 else "looked at once"
        mark = "chosen" if m.configuration == profile.chosen else ""
        grid.add_row(m.configuration.words, f"{m.ms:.3g}", interval, str(m.rounds), f"{m.deviation:.3g}", mark)
    show(grid)
    for name, why in profile.left_out.items():
        echo(f"left out: {name}: {why}")
    echo(f"machine: {', '.join(f'{name} {value}' for name, value in profile.machine.items())}")
    echo(f"chosen: {profile.chosen.words}, {profile.why}")
    echo("nothing was written" if written is None else f"{written}: new outputs of `score` take it")
    echo(NOTICE)


def profile_words(opened: Bundle) -> str:
    """What the device profile of a bundle says here, for `inspect`."""
    from dtvit_edge.scoring.configuration import usable_profile

    profile, why_not = usable_profile(opened)
    return why_not if profile is None else f"{profile.chosen.words}, {profile.why}"
