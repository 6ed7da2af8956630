"""The last step of a deployment: which configuration is the fastest here, of those that the gate let pass."""

from __future__ import annotations

from calibration.deploy_steps import LEFT, NOT_ASKED, TUNE, Outcome, Step
from dtvit_edge.bundle import Bundle
from dtvit_edge.bundle.device_profile import DEVICE_PROFILE, DeviceProfile, write_profile
from dtvit_edge.bundle.verdicts import FAILED, PASSED
from dtvit_edge.errors import MissingDependency, VerdictError
from dtvit_edge.progress import Progress
from dtvit_edge.scoring.configuration import usable_profile
from dtvit_edge.scoring.tuning import Tuner


def tune_here(bundle: Bundle, seconds: float, progress: Progress) -> Step:
    """Measure as `dtvit-edge tune` does; a profile that holds here and now is kept.

    Args:
        seconds: how long; 0 measures nothing.

    Raises:
        DiskFault: the profile cannot be written.
    """
    if not seconds:
        words = f"`dtvit-edge tune {bundle.path.name}` measures on the device what is fastest there"
        return Step(TUNE, (Outcome("", NOT_ASKED, words),))
    known, _ = usable_profile(bundle)
    if known is not None:
        return Step(TUNE, (_chosen(known),), known.seconds, before=True)
    try:
        profile = Tuner(bundle, seconds).run(progress)
    except MissingDependency as error:
        return Step(TUNE, (Outcome("", LEFT, str(error)),))
    except VerdictError as error:
        return Step(TUNE, (Outcome("", FAILED, str(error)),), seconds)
    write_profile(bundle.path, profile)
    return Step(TUNE, (_chosen(profile),), profile.seconds)


def _chosen(profile: DeviceProfile) -> Outcome:
    words = f"{DEVICE_PROFILE}: {profile.chosen.words}, {profile.why}"
    return Outcome(profile.chosen.precision, PASSED, words)
