"""What others published is complete, adds up, and is where ours takes its defaults from."""

from __future__ import annotations

import pytest

from dtvit_edge.spec import PreprocessSpec
from training import augment, published
from training.config import PAPER_BATCH, TrainConfig
from training.published import facts, group, paper_rows

GROUPS = ("accuracies", "settings", "code_dataset", "code_settings", "code_accuracies")
DATASET = {entry.figure: entry.value for entry in group("code_dataset")}
CODE_ACCURACIES = {entry.figure: entry.value for entry in group("code_accuracies")}
LOCATIONS = ("deep", "lobar", "subtentorial")


def test_every_entry_says_where_it_is_from() -> None:
    for entry in (entry for name in (*GROUPS, "statements") for entry in facts()[name]):
        assert entry["place"].strip() and entry["source"] in published.SOURCES, entry


@pytest.mark.parametrize("row", paper_rows(), ids=lambda row: row.name)
def test_every_row_of_tables_2_and_3_has_its_five_figures(row: published.PaperRow) -> None:
    assert set(row.printed) == set(published.METRICS) and all(0.5 < value <= 1 for value in row.printed.values())


def test_there_are_four_rows_in_table_2_and_six_in_table_3() -> None:
    assert [row.table for row in paper_rows()] == [2] * 4 + [3] * 6


@pytest.mark.parametrize("entry", [*group("accuracies"), *group("code_accuracies")], ids=lambda entry: entry.figure)
def test_accuracies_are_shares_and_better_than_chance(entry: published.Published) -> None:
    assert 0.5 < entry.value <= 1


def test_counts_of_the_paper_add_up_where_it_does_not_contradict_itself() -> None:
    table, test = facts()["table_1"], facts()["test_set"]
    assert table["male"] + table["female"] == table["patients"]
    for counts in (table, test):
        assert sum(counts[name] for name in LOCATIONS) == counts["ich"]
    assert table["ich"] + table["no_ich"] == table["slices"] and test["ich"] + test["no_ich"] == test["images"]


@pytest.mark.parametrize("what", ["patients", "images", "replicated"])
def test_locations_of_the_code_add_up_to_the_haemorrhages(what: str) -> None:
    assert sum(DATASET[f"{what}_{name}"] for name in LOCATIONS) == DATASET[f"{what}_ich"]


def test_the_code_has_the_slices_of_table_1() -> None:
    assert {name: DATASET[f"images_{name}"] for name in (*LOCATIONS, "ich", "no_ich")} == {
        name: facts()["table_1"][name] for name in (*LOCATIONS, "ich", "no_ich")
    }


def test_replicated_counts_are_whole_copies_of_the_images() -> None:
    """The authors' code copies each class as often as the largest holds it whole."""
    most = DATASET["images_deep"]
    for name in LOCATIONS:
        images = DATASET[f"images_{name}"]
        assert DATASET[f"replicated_{name}"] == images * (most // images)
    copies = DATASET["replicated_ich"] // DATASET["images_no_ich"]
    assert DATASET["replicated_no_ich"] == DATASET["images_no_ich"] * copies


@pytest.mark.parametrize(
    ("figure", "hits", "total"),
    [
        ("vit_l16_imagenet_test_ich", 1325 + 1680, 3023),
        ("vit_l16_imagenet_test_location", 582 + 482 + 588, 1680),
        ("vgg16_bn_imagenet_test_ich", 1342 + 1681, 3023),
        ("vgg16_bn_imagenet_test_location", 601 + 479 + 596, 1681),
    ],
)
def test_accuracies_of_the_code_follow_from_its_confusion_counts(figure: str, hits: int, total: int) -> None:
    assert CODE_ACCURACIES[figure] == pytest.approx(hits / total, abs=1e-12)


def test_the_papers_settings_are_the_defaults_of_training() -> None:
    settings = {entry.figure: entry.value for entry in group("settings")}
    config = TrainConfig()
    assert settings["learning_rate"] == config.learning_rate and settings["epochs"] == config.epochs
    assert settings["batch_without_augmentation"] == PAPER_BATCH[False]
    assert settings["batch_with_augmentation"] == PAPER_BATCH[True]
    assert settings["rotation_deg"] == augment.ROTATION_DEG
    assert settings["sharpness_factor"] == augment.SHARPNESS_FACTOR
    assert settings["crop"] == PreprocessSpec().crop


def test_the_window_of_the_code_is_the_default_window() -> None:
    settings = {entry.figure: entry.value for entry in group("code_settings")}
    low, high = settings["window_low_hu"], settings["window_high_hu"]
    (window,) = PreprocessSpec().windows
    assert ((low + high) / 2, high - low) == (window.center_hu, window.width_hu)
