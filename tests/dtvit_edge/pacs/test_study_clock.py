"""When a study is due."""

from __future__ import annotations

from dtvit_edge.pacs.incoming import Relevance
from dtvit_edge.pacs.study_clock import StudyClock

SOFT, BONE, OTHER = Relevance(True), Relevance(True, bone=True), Relevance(False)


class Hands:
    """A clock that tests set; waiting moves it on."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def clock_of(hands: Hands) -> StudyClock:
    clock = StudyClock(10, hands)
    clock._changed.wait = lambda timeout=None: setattr(hands, "now", hands.now + (timeout or 0)) or True  # type: ignore[method-assign,func-returns-value,assignment]
    return clock


def when_due(clock: StudyClock, hands: Hands) -> float:
    assert clock.next(1000) == "study"
    return hands.now - 1000


def test_suitable_slices_put_a_study_off_and_nothing_else_does() -> None:
    hands = Hands()
    clock = clock_of(hands)
    clock.arrived("study", SOFT)
    for found, seconds in ((SOFT, 4), (OTHER, 3), (BONE, 3)):
        hands.now += seconds
        clock.arrived("study", found)
    assert when_due(clock, hands) == 14  # 10 s behind the last soft slice


def test_a_study_with_a_bone_kernel_alone_is_waited_for_as_any() -> None:
    hands = Hands()
    clock = clock_of(hands)
    for seconds in (0, 6, 6):
        hands.now += seconds
        clock.arrived("study", BONE)
    assert when_due(clock, hands) == 22


def test_what_is_not_suitable_makes_a_study_due_all_the_same() -> None:
    hands = Hands()
    clock = clock_of(hands)
    clock.arrived("study", OTHER)
    assert when_due(clock, hands) == 10


def test_studies_come_in_the_order_in_which_they_are_due_and_an_end_wakes() -> None:
    hands = Hands()
    clock = clock_of(hands)
    clock.arrived("b", SOFT)
    hands.now += 1
    clock.arrived("a", SOFT)
    assert [clock.next(100), clock.next(100), clock.next(5)] == ["b", "a", None]
    clock.arrived("c", SOFT)
    clock.end()
    assert clock.next(1000) is None
