from __future__ import annotations

import numpy as np
import pytest

from benchmarks.measure.yardstick import ALL_SAMPLES, YARDSTICK_OPTION, Yardstick, yardstick_ms
from benchmarks.results import names
from evaluation.records import Record


def test_what_it_took_goes_into_one_record_and_it_begins_anew() -> None:
    yardstick = Yardstick()
    yardstick.take()
    yardstick.take("a configuration")
    kept = yardstick.take_options()
    assert (
        set(kept[YARDSTICK_OPTION]) == {ALL_SAMPLES, "a configuration"}
        and min(min(values) for values in kept[YARDSTICK_OPTION].values()) > 0
    )
    assert yardstick.take_options() == {}
    record = Record(names.LATENCY, "ms", {"a configuration": [1.0]}, {}, options=kept)
    assert yardstick_ms(record, "a configuration") == kept[YARDSTICK_OPTION]["a configuration"]
    assert yardstick_ms(record, "another") == kept[YARDSTICK_OPTION][ALL_SAMPLES]
    assert yardstick_ms(Record(names.LATENCY, "ms", {"a configuration": [1.0]}, {}), "a configuration") is None


def test_it_is_the_same_work_every_time() -> None:
    first, second = Yardstick(), Yardstick()
    first()
    second()
    np.testing.assert_array_equal(first._product, second._product)
    assert np.abs(first._product).max() == pytest.approx(np.abs(first._a @ first._b).max(), rel=1e-4)
