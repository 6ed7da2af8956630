"""What the measurements come to, in words: a verdict on each precision, and a summary that takes a minute.

Nothing here says anything of people: agreement is with the reference, PyTorch or the bundle's own fp32 file, whatever
that is worth. Nothing is recommended whose gate was switched off, or whose times have two modes.
"""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.report.run_view import RunView
from benchmarks.results import names

_NOT_CLINICAL = (
    "Nothing in this report says how accurate the model is on patients: it compares the deployed files with {}, and "
    "speed with speed. A study that is not flagged is not a normal study."
)
_QUICK = ", as --quick does"
MIB = 2**20
_TRAINING = {
    "untrained": "The model was never trained: only its speed means anything.",
    "synthetic": "The model was trained on phantoms alone: on slices of people its answers mean nothing.",
    "clinical-unvalidated": "The model was trained on patients' slices, and nobody has validated it.",
}


def not_clinical(views: Sequence[RunView]) -> str:
    """What a report does not say, and what its bundles were compared with."""
    references = " or ".join(dict.fromkeys(view.reference for view in views)) or "a reference"
    return _NOT_CLINICAL.format(f"the same model in {references}")


def verdicts(view: RunView) -> list[tuple[str, str]]:
    """(precision, sentence), the fastest first and those without a latency last."""
    rows = []
    for precision, configurations in view.precisions().items():
        fastest = configurations[0]
        if fastest not in view.passed:
            why = "; ".join(view.left_out[name] for name in configurations if name in view.left_out)
            rows.append((precision, f"not usable here, no latency: {why}"))
            continue
        sentence = f"{_faithful(view, fastest)}{_speed(view, fastest)} ({fastest}, {view.median_ms(fastest):.3g} ms)."
        rows.append((precision, sentence))
    return rows


def summary(view: RunView) -> list[str]:
    """Sentences for those who run the machine, the most important first."""
    accuracy = view.accuracy
    machine = accuracy.environment["machine"]
    lines = [f"Model: {view.title}. Machine: {machine['processor']}, {machine['cores']} core(s) for this run."]
    if not view.passed:
        return [*lines, f"No configuration agreed with {view.reference}, so nothing was timed. Do not use it here."]
    if view.busy:
        lines.append(f"Careful: {view.busy}; ratios stand, since all contenders took turns.")
    best = view.passed[0]
    lines.append(_recommendation(view, best))
    agreement = view.figure(names.ACCURACY, best, "agreement")
    lines.append(
        f"It decides {agreement or 0:.2%} of {view.slices} slices ({accuracy.options['data']}) as {view.reference} "
        f"does{_proof(view, best)}."
    )
    lines += _needs(view, best)
    failed = [configuration for configuration in view.configurations if configuration not in view.passed]
    if failed:
        lines.append(f"Do not use: {', '.join(failed)}. They disagree with the model and were not timed.")
    lines.append(_TRAINING[accuracy.options["training"]])
    return lines


def _proof(view: RunView, configuration: str) -> str:
    """What the gate leaves open, behind what it counted."""
    if not view.gated:
        return "; nothing was asked of that: not gated"
    return "; that is too few slices to prove it" if view.inconclusive(configuration) else ""


def _recommendation(view: RunView, best: str) -> str:
    """What to use; nothing where the gate was switched off, or a run that could be the fastest has two modes."""
    middle = view.median_ms(best)
    unsteady = {name: modes for name in view.passed if (modes := view.modes(name)) and modes[0] <= middle}
    if unsteady:
        said = "; ".join(f"{name} took {low:.3g} or {high:.3g} ms" for name, (low, high) in unsteady.items())
        return f"No recommendation: times have two modes ({said}). Measure again, with --threads 1 on a quiet machine."
    if not view.gated:
        off = ", ".join(view.limits_off) + _QUICK * ("--shift-slices" in view.limits_off)
        return (
            f"No recommendation: limits of the gate were switched off ({off}). Fastest is {best}: {_times(view, best)}"
        )
    return f"Use {best}: {_times(view, best)}"


def _faithful(view: RunView, configuration: str) -> str:
    if not view.gated:
        return f"not gated, so that nothing says how faithful to {view.reference} it is"
    if view.inconclusive(configuration):
        return f"no difference to {view.reference} was found, but {view.slices} slices prove too little"
    return f"faithful to {view.reference}"


def _speed(view: RunView, configuration: str) -> str:
    """How a precision's fastest configuration stands among the others'."""
    if modes := view.modes(configuration):
        return f"; its times have two modes, {modes[0]:.3g} and {modes[1]:.3g} ms, and are not to be compared"
    others = [other for other in view.best() if other != configuration]
    if not others:
        return ", and the only one timed"
    best = view.best()[0]
    if configuration == best:
        lead = view.ratio(others[0], configuration)
        if lead.low > 1:
            joined = ";" if view.inconclusive(configuration) else " and"
            return f"{joined} fastest here: {lead.value:.2f} times as fast as {view.precision(others[0])}"
        return f"; its lead over {view.precision(others[0])} is within the noise"
    behind = view.ratio(configuration, best)
    if behind.low > 1:
        return f", but {view.precision(best).upper()} wins here: {behind.value:.2f} times as fast"
    return f"; what it is behind {view.precision(best)} is within the noise"


def _times(view: RunView, configuration: str) -> str:
    said = [f"{view.median_ms(configuration):.3g} ms for one slice in the model"]
    if (a_slice := view.figure(names.END_TO_END, configuration, f"{names.PER_SLICE}: median")) is not None:
        said.append(f"{a_slice:.3g} ms a slice from file to result")
    if (studies := view.figure(names.END_TO_END, configuration, "studies a minute")) is not None:
        said.append(f"{studies:.3g} studies a minute")
    if (cold := view.figure(names.COLD_START, configuration, "median")) is not None:
        said.append(f"{cold:.2g} s from a cold start to the first result")
    return ", ".join(said) + "."


def _needs(view: RunView, configuration: str) -> list[str]:
    peak = view.figure(names.MEMORY, configuration, "max")
    size = view.model_bytes(configuration)
    if peak is None:
        return []
    disk = f" and {size / MIB:.0f} MiB of disk" if size else ""
    return [f"It needs {peak / MIB:.0f} MiB of memory{disk}. It needs no network."]
