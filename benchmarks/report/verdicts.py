"""What the measurements come to, in words: a verdict on each precision, and a summary that takes a minute.

Nothing here says anything of people: agreement is with the PyTorch model, whatever that is worth.
"""

from __future__ import annotations

from benchmarks.report.view import View
from benchmarks.results import names

NOT_CLINICAL = (
    "Nothing in this report says how accurate the model is on patients: it compares the deployed files with the "
    "PyTorch model that they were made from, and speed with speed. A study that is not flagged is not a normal study."
)
MIB = 2**20
_TRAINING = {
    "untrained": "The model was never trained: only its speed means anything.",
    "synthetic": "The model was trained on phantoms alone: on slices of people its answers mean nothing.",
    "clinical-unvalidated": "The model was trained on patients' slices, and nobody has validated it.",
}


def verdicts(view: View) -> list[tuple[str, str]]:
    """(precision, sentence), the fastest first and those without a latency last."""
    found = []
    for precision, own in view.precisions().items():
        if own[0] not in view.passed:
            why = "; ".join(view.left_out[side] for side in own if side in view.left_out)
            found.append((precision, f"not usable here, no latency: {why}"))
            continue
        faithful = _faithful(view, own[0])
        found.append((precision, f"{faithful}{_speed(view, own[0])} ({own[0]}, {view.median_ms(own[0]):.3g} ms)."))
    return found


def summary(view: View) -> list[str]:
    """Sentences for those who run the machine, the most important first."""
    accuracy = view.accuracy
    machine = accuracy.environment["machine"]
    lines = [f"Model: {view.title}. Machine: {machine['processor']}, {machine['cores']} core(s) for this run."]
    if not view.passed:
        return [*lines, "No configuration agreed with the PyTorch model, so nothing was timed. Do not use it here."]
    if view.busy:
        lines.append(f"Careful: {view.busy}; ratios stand, since all sides took turns.")
    best = view.passed[0]
    lines.append(f"Use {best}: {_times(view, best)}")
    agreement = view.figure(names.ACCURACY, best, "agreement")
    lines.append(
        f"It decides {agreement or 0:.2%} of {view.slices} slices ({accuracy.options['data']}) as "
        f"{accuracy.options['reference']} does"
        + ("; that is too few slices to prove it." if view.inconclusive(best) else ".")
    )
    lines += _needs(view, best)
    failed = [side for side in view.sides if side not in view.passed]
    if failed:
        lines.append(f"Do not use: {', '.join(failed)}. They disagree with the model and were not timed.")
    lines.append(_TRAINING[accuracy.options["training"]])
    return lines


def _faithful(view: View, side: str) -> str:
    if view.inconclusive(side):
        return f"no difference to the PyTorch reference was found, but {view.slices} slices prove too little"
    return "faithful to the PyTorch reference"


def _speed(view: View, side: str) -> str:
    """How a precision's fastest side stands among the others'."""
    others = [other for other in view.best() if other != side]
    if not others:
        return ", and the only one timed"
    best = view.best()[0]
    if side == best:
        lead = view.ratio(others[0], side)
        if lead.low > 1:
            joined = ";" if view.inconclusive(side) else " and"
            return f"{joined} fastest here: {lead.value:.2f} times as fast as {view.precision(others[0])}"
        return f"; its lead over {view.precision(others[0])} is within the noise"
    behind = view.ratio(side, best)
    if behind.low > 1:
        return f", but {view.precision(best).upper()} wins here: {behind.value:.2f} times as fast"
    return f"; what it is behind {view.precision(best)} is within the noise"


def _times(view: View, side: str) -> str:
    said = [f"{view.median_ms(side):.3g} ms for one slice in the model"]
    if (a_slice := view.figure(names.END_TO_END, side, f"{names.A_SLICE}: median")) is not None:
        said.append(f"{a_slice:.3g} ms a slice from file to result")
    if (studies := view.figure(names.END_TO_END, side, "studies a minute")) is not None:
        said.append(f"{studies:.3g} studies a minute")
    if (cold := view.figure(names.COLD, side, "median")) is not None:
        said.append(f"{cold:.2g} s from a cold start to the first result")
    return ", ".join(said) + "."


def _needs(view: View, side: str) -> list[str]:
    peak = view.figure(names.MEMORY, side, "max")
    size = view.model_bytes(side)
    if peak is None:
        return []
    disk = f" and {size / MIB:.0f} MiB of disk" if size else ""
    return [f"It needs {peak / MIB:.0f} MiB of memory{disk}. It needs no network."]
