from __future__ import annotations

import numpy as np
import pytest

from benchmarks.measure.yardstick import ALL, OPTION, Yardstick, beside
from benchmarks.results import names
from evaluation.records import Record


def test_what_it_took_goes_into_one_record_and_it_begins_anew() -> None:
    yardstick = Yardstick()
    yardstick.take()
    yardstick.take("a side")
    kept = yardstick.told()
    assert set(kept[OPTION]) == {ALL, "a side"} and min(min(values) for values in kept[OPTION].values()) > 0
    assert yardstick.told() == {}
    record = Record(names.LATENCY, "ms", {"a side": [1.0]}, {}, options=kept)
    assert beside(record, "a side") == kept[OPTION]["a side"]
    assert beside(record, "another") == kept[OPTION][ALL]
    assert beside(Record(names.LATENCY, "ms", {"a side": [1.0]}, {}), "a side") is None


def test_it_is_the_same_work_every_time() -> None:
    first, second = Yardstick(), Yardstick()
    first()
    second()
    np.testing.assert_array_equal(first._product, second._product)
    assert np.abs(first._product).max() == pytest.approx(np.abs(first._a @ first._b).max(), rel=1e-4)
