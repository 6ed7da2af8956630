"""The gate's verdicts of a calibration: of files and of configurations, at home and elsewhere."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property

import numpy as np

from dtvit_edge import backends
from dtvit_edge.backend import Backend, Logits, in_batches
from dtvit_edge.backends.onnxruntime import OnnxRuntimeBackend, logits_of
from dtvit_edge.bundle import Bundle
from dtvit_edge.bundle.verdicts import configuration_name
from dtvit_edge.progress import Progress
from dtvit_edge.spec import ICH_OUTPUT
from evaluation import gate
from evaluation.agreement import DecisionRule
from evaluation.gate import Compared, Verdict
from evaluation.limits import Limits
from evaluation.sampling import SETS, Pixels, SliceSet
from evaluation.scanner_shifts import shifted_sets

_, VALIDATION, TEST = SETS
_OF_VALIDATION = f"{VALIDATION}, "
# Validation slices under each shift of the scanner: those on which fp32 itself is least sure, as there rounding moves a
# probability most. As many others hardly hold one of the few slices by which the test set decides.
_VALIDATION_SHIFTED = 64
# The share of --difference that the validation set may take. What just passes on few slices fails on the test set
# as often as not, and a few more operators in higher precision cost a few per cent of its time. Some models keep half
# of it with no number of operators: for them it is the whole.
SHARES = (0.5, 1.0)


class Judge:
    """Compares model files with fp32 on a bundle's sets of slices; what fp32 says of each set is computed once."""

    def __init__(
        self, bundle: Bundle, sets: Mapping[str, SliceSet], limits: Limits, seed: int, progress: Progress
    ) -> None:
        self.bundle, self.sets, self.limits, self.seed, self.progress = bundle, sets, limits, seed, progress
        self.fp32 = bundle.model_bytes("fp32")
        self._reference: dict[str, Logits] = {}

    def reference(self, name: str) -> Logits:
        """The logits of fp32 on a set, a shifted one or another site's among them."""
        if name not in self._reference:
            self._reference[name] = self.run("fp32", self.fp32, self._slices(name).pixels)
        return self._reference[name]

    def _slices(self, name: str) -> SliceSet:
        """A set by its name; shifted ones are made when they are asked for."""
        if name in self.sets:
            return self.sets[name]
        return (self.validation_elsewhere if name.startswith(_OF_VALIDATION) else self.elsewhere)[name]

    def run(self, precision: str, data: bytes, pixels: Pixels, shown: str = "") -> Logits:
        """The logits of a model file on ONNX Runtime; `shown` is what the progress shows, else the precision."""
        with self.progress(shown or precision, len(pixels)) as step:
            return logits_of(data, precision, pixels, step=step)

    def assess(self, precision: str, data: bytes) -> Verdict:
        """The gate's verdict on a model file over the test set, as it is and under all shifts of the scanner."""
        with OnnxRuntimeBackend(lambda: data, precision) as backend:
            return self._judge(precision, backend)

    def passes(self, precision: str, data: bytes, share: float = SHARES[0]) -> bool:
        """Whether a model file passes on the validation set and under each shift of the scanner; the first no ends it.

        What said no last time is asked first.

        Args:
            share: of --difference, which probabilities may take there.
        """
        with OnnxRuntimeBackend(lambda: data, precision) as backend:
            for name in sorted(self._asked, key=self._asked.__getitem__):
                logits = self._logits_of(backend, self._slices(name), f"{precision} with fp32: {name}")
                if not self._keeps_limits(precision, name, logits, share):
                    self._asked[name] = min(self._asked.values()) - 1
                    return False
        return True

    def assess_hinted(self, precision: str, data: bytes) -> tuple[Verdict, ...]:
        """The gate's verdict on a model file with each hint that a backend here has arithmetic of its own for."""
        verdicts = []
        for name in backends.NAMES:
            if backends.runs_engines(name) or precision not in backends.precisions(name):
                continue
            for hint in backends.native_hints(name) if backends.availability()[name] is None else ():
                with backends.create(name, lambda: data, precision, hint=hint) as backend:
                    verdicts.append(self._judge(configuration_name(precision, hint), backend, f", hint {hint}"))
        return tuple(verdicts)

    def _judge(self, name: str, backend: Backend, hint: str = "") -> Verdict:
        """Run a configuration over the test set, and over what is asked besides, and compare it with fp32."""
        logits = self._logits_of(backend, self.sets[TEST], f"{name} with fp32")
        compared = [
            Compared(
                other,
                self.reference(other),
                self._logits_of(backend, slices, f"{name} with fp32: {other}"),
                slices.labels,
            )
            for other, slices in self.elsewhere.items()
        ]
        described = backend.describe()
        ran_on = f"{described['backend']} {described['version'].partition('-')[0]}{hint}"
        return self.compare(name, logits, TEST, compared, ran_on)

    def _logits_of(self, backend: Backend, slices: SliceSet, what: str) -> Logits:
        with self.progress(f"comparing {what}", len(slices)) as step:
            return in_batches(backend.infer, slices.pixels, backend.batch, step)

    def _choosing(self, share: float) -> Limits:
        """What the validation set has to keep, which chooses and proves nothing.

        The count of slices is no reason there: else no file ever passed away from home, fp32 itself among them.
        """
        limits = self.limits
        difference = limits.difference if limits.difference >= 1 else share * limits.difference
        return replace(limits, slices=0, difference=difference)

    @cached_property
    def _asked(self) -> dict[str, int]:
        """The sets that `passes` asks, by name, with their places in the order."""
        return {name: place for place, name in enumerate((VALIDATION, *self.validation_elsewhere))}

    def _keeps_limits(self, precision: str, name: str, logits: Logits, share: float) -> bool:
        """Whether one of those sets' logits pass by themselves, at home or away from it."""
        if name == VALIDATION:
            verdict = self.compare(precision, logits, name, share=share).verdict
        else:
            away = Compared(name, self.reference(name), logits, self._slices(name).labels)
            verdict = gate.judge_away(away, DecisionRule.of(self.bundle), self._choosing(share)).verdict
        return verdict in (gate.PASSED, gate.NOT_GATED)

    @cached_property
    def elsewhere(self) -> dict[str, SliceSet]:
        """The test set under each shift of the scanner, and another site's slices where there are any."""
        shifted = self.shifted(TEST, self.limits.shift_slices)
        return shifted | {name: self.sets[name] for name in (gate.OTHER,) if name in self.sets}

    @cached_property
    def validation_elsewhere(self) -> dict[str, SliceSet]:
        """The validation set under each shift of the scanner, by names of its own."""
        logits = self.reference(VALIDATION)[ICH_OUTPUT]
        least_sure = np.argsort(np.abs(logits[:, 1] - logits[:, 0]), kind="stable")[:_VALIDATION_SHIFTED]
        shifted = self._shifted(self.sets[VALIDATION].at(least_sure.tolist()), _VALIDATION_SHIFTED)
        return {f"{_OF_VALIDATION}{name}": few for name, few in shifted.items()}

    def shifted(self, set_name: str, count: int) -> dict[str, SliceSet]:
        """Up to so many slices of a set under each shift of the scanner; none where no shift is asked for."""
        return self._shifted(self.sets[set_name], count)

    def _shifted(self, slices: SliceSet, count: int) -> dict[str, SliceSet]:
        count, spec = min(count, self.limits.shift_slices), self.bundle.manifest.spec
        if not count:
            return {}
        return shifted_sets(slices, spec, seed=self.seed, count=count, progress=self.progress)

    def compare(
        self,
        precision: str,
        logits: Logits,
        set_name: str,
        elsewhere: Sequence[Compared] = (),
        ran_on: str = "",
        share: float = SHARES[0],
    ) -> Verdict:
        """The gate's verdict on logits over a set; only the test set gets confidence intervals, which take seconds."""
        return gate.compare_with_fp32(
            precision,
            self.reference(set_name),
            logits,
            self.sets[set_name].labels,
            rule=DecisionRule.of(self.bundle),
            limits=self.limits if set_name == TEST else self._choosing(share),
            elsewhere=elsewhere,
            seed=self.seed,
            intervals=set_name == TEST,
            ran_on=ran_on,
        )
