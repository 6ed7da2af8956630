from __future__ import annotations

import dataclasses

import pytest

from dtvit_edge.spec import PreprocessSpec
from training import augment, published
from training.config import PAPER_BATCH, TrainConfig
from training.published import Published, Statement

ACCURACIES = [
    *published.TABLE_2,
    *published.TABLE_3,
    *published.ACCURACIES,
    *published.CODE_ACCURACIES,
    *(figure for c in published.CONTRADICTIONS for figure in c.figures),
]
DATASET = {entry.figure: entry.value for entry in published.CODE_DATASET}
CODE_ACCURACIES = {entry.figure: entry.value for entry in published.CODE_ACCURACIES}


def value(group: tuple[Published, ...], figure: str) -> float:
    (value,) = [entry.value for entry in group if entry.figure == figure]
    return value


def test_every_entry_says_where_it_is_from() -> None:
    entries: list[Published | Statement] = [*published.FIGURES, *published.STATEMENTS, *published.CODE_METRICS.values()]
    for entry in entries:
        assert entry.place.strip(), entry
        assert entry.source in published.SOURCES, entry


def test_entries_cannot_be_changed() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        published.ACCURACIES[0].value = 1.0  # type: ignore[misc]


@pytest.mark.parametrize("entry", ACCURACIES, ids=lambda entry: f"{entry.figure}-{entry.value}")
def test_accuracies_are_shares_and_better_than_chance(entry: Published) -> None:
    assert 0.5 < entry.value <= 1


def test_counts_are_whole_and_positive() -> None:
    assert all(count > 0 and count == int(count) for count in DATASET.values())


@pytest.mark.parametrize("what", ["patients", "images", "replicated"])
def test_locations_add_up_to_the_haemorrhages(what: str) -> None:
    assert sum(DATASET[f"{what}_{name}"] for name in ("deep", "lobar", "subtentorial")) == DATASET[f"{what}_ich"]


@pytest.mark.parametrize("what", ["images", "replicated"])
def test_both_classes_add_up_to_the_whole_set(what: str) -> None:
    assert DATASET[f"{what}_ich"] + DATASET[f"{what}_no_ich"] == DATASET[what]


def test_replicated_counts_are_whole_copies_of_the_images() -> None:
    """The authors' code copies each class as often as the largest holds it whole."""
    most = DATASET["images_deep"]
    for name in ("deep", "lobar", "subtentorial"):
        images = DATASET[f"images_{name}"]
        assert DATASET[f"replicated_{name}"] == images * (most // images)
    assert DATASET["replicated_no_ich"] == DATASET["images_no_ich"] * (
        DATASET["replicated_ich"] // DATASET["images_no_ich"]
    )


@pytest.mark.parametrize(
    ("figure", "hits", "total"),
    [
        pytest.param("vit_l16_imagenet_test_ich", 1325 + 1680, 3023, id="vit-ich"),
        pytest.param("vit_l16_imagenet_test_location", 582 + 482 + 588, 1680, id="vit-location"),
        pytest.param("vgg16_bn_imagenet_test_ich", 1342 + 1681, 3023, id="vgg-ich"),
        pytest.param("vgg16_bn_imagenet_test_location", 601 + 479 + 596, 1681, id="vgg-location"),
    ],
)
def test_accuracies_of_the_code_follow_from_its_confusion_counts(figure: str, hits: int, total: int) -> None:
    assert CODE_ACCURACIES[figure] == pytest.approx(hits / total, abs=1e-12)


def test_contradicting_figures_are_all_kept() -> None:
    given_thrice, tables, versions = published.CONTRADICTIONS
    assert {figure.value for figure in given_thrice.figures} == {0.9923, 0.995, 0.997}
    assert "Table 2" in tables.what and "Table 3" in tables.what
    assert len({figure.source for figure in versions.figures}) == 2
    for contradiction in published.CONTRADICTIONS:
        values = [figure.value for figure in contradiction.figures]
        assert len(set(values)) == len(values) != 1, contradiction


def test_both_namings_of_the_locations_are_kept() -> None:
    named = [s for s in published.STATEMENTS if s.text.startswith("the three locations")]
    assert {s.source for s in named} == {"paper", "code"}


@pytest.mark.parametrize(
    ("name", "held"),
    [
        pytest.param("Equations 1 to 5", published.EQUATIONS, id="equations"),
        pytest.param("Table 1", published.TABLE_1, id="table-1"),
        pytest.param("Table 2", published.TABLE_2, id="table-2"),
        pytest.param("Table 3", published.TABLE_3, id="table-3"),
    ],
)
def test_what_is_empty_is_listed_as_not_found_and_nothing_else(name: str, held: object) -> None:
    assert any(sentence.startswith(f"{name}:") for sentence in published.NOT_FOUND) == (not held)


def test_no_result_claims_to_be_read_in_the_paper_while_its_tables_are_missing() -> None:
    assert not any(entry.source == "paper" for entry in published.FIGURES)


def test_quoted_settings_are_the_defaults_of_training() -> None:
    settings = {entry.figure: entry.value for entry in published.SETTINGS}
    config = TrainConfig()
    assert settings["learning_rate"] == config.learning_rate
    assert settings["epochs"] == config.epochs
    assert settings["batch_without_augmentation"] == PAPER_BATCH[False]
    assert settings["batch_with_augmentation"] == PAPER_BATCH[True]
    assert settings["rotation_deg"] == augment.ROTATION_DEG
    assert settings["sharpness_factor"] == augment.SHARPNESS_FACTOR
    assert settings["crop"] == PreprocessSpec().crop


def test_the_window_of_the_code_is_the_default_window() -> None:
    low, high = (value(published.CODE_SETTINGS, f"window_{end}_hu") for end in ("low", "high"))
    (window,) = PreprocessSpec().windows
    assert ((low + high) / 2, high - low) == (window.center_hu, window.width_hu)
