"""What others published: figures to stand beside ours, each with the place that it is from.

The paper is Fan, Lu, Fan and others, arXiv 2405.06814 (v1 to v3), doi 10.1038/s41598-024-79090-y. Of its text only the
abstracts of v1, v2, v3 and the journal could be read, and the start of the journal's introduction; they hold no
result. Everything else here is second hand or from the authors' public code, and `source` says which. `NOT_FOUND` lists
what is left out.
Shares lie between 0 and 1, whatever the source writes; everything else counts or measures what its name says.
"""

from __future__ import annotations

from dataclasses import dataclass

QUOTED = "quoted"
SUMMARY = "summary"
CODE = "code"
SOURCES = {
    "paper": "read in the paper",
    QUOTED: "as quoted by this project, not read in the paper",
    SUMMARY: "a third party's summary of the paper, not read in the paper",
    CODE: "the authors' public code and its logs; nothing says that it is what the paper prints",
}


@dataclass(frozen=True)
class Published:
    """One figure.

    Attributes:
        figure: what it measures.
        place: section, table or file, with the version; of a second-hand figure what is known of it.
        source: a key of `SOURCES`.
    """

    figure: str
    value: float
    place: str
    source: str


@dataclass(frozen=True)
class Statement:
    """Something that is no number; as `Published` otherwise."""

    text: str
    place: str
    source: str


@dataclass(frozen=True)
class Contradiction:
    """Different figures for one thing; all of them are shown. Without figures they were not readable."""

    what: str
    figures: tuple[Published, ...]


def _quoted(figure: str, value: float, place: str) -> Published:
    return Published(figure, value, place, QUOTED)


def _code(figure: str, value: float, place: str) -> Published:
    return Published(figure, value, place, CODE)


# What the paper prints. Empty means that it was not readable.
EQUATIONS: dict[int, str] = {}
TABLE_1: tuple[Published, ...] = ()
TABLE_2: tuple[Published, ...] = ()
TABLE_3: tuple[Published, ...] = ()

_ANYWHERE = "place and version not known"
ACCURACIES = (
    _quoted("accuracy_ich", 0.992, _ANYWHERE),
    _quoted("accuracy_location", 0.974, _ANYWHERE),
    Published("best_test_accuracy", 0.999, "summary of the text under v3's title, 'up to'", SUMMARY),
    Published("test_accuracy_location_low", 0.996, "summary of the text under v3's title, 'task 2'", SUMMARY),
    Published("test_accuracy_location_high", 0.999, "summary of the text under v3's title, 'task 2'", SUMMARY),
)

CONTRADICTIONS = (
    Contradiction(
        "one accuracy of the model, given three times",
        tuple(_quoted("accuracy", value, _ANYWHERE) for value in (0.9923, 0.995, 0.997)),
    ),
    Contradiction("Table 2 against Table 3 for the same model", ()),
    Contradiction("location accuracy: as quoted, against a summary of v3", ACCURACIES[1:2] + ACCURACIES[3:]),
)

SETTINGS = (
    _quoted("learning_rate", 0.01, "section 3.2, SGD"),
    _quoted("epochs", 50, "section 3.2"),
    _quoted("batch_without_augmentation", 8, "section 3.2"),
    _quoted("batch_with_augmentation", 32, "section 3.2"),
    _quoted("rotation_deg", 15, "section 2.2.3"),
    _quoted("sharpness_factor", 2, "section 2.2.3"),
    _quoted("crop", 224, "section 2.2.3"),
)

STATEMENTS = (
    Statement("one hospital, one GE scanner, 5 mm slices", "limits", QUOTED),
    Statement("healthy people of 2024 against patients of 2018 to 2021", "limits", QUOTED),
    Statement("augmentation by mere replication", "limits", QUOTED),
    Statement("replicated to about 1:1:1 and 1:1 first, then split by image", "section 2.2.3", QUOTED),
    Statement(
        "the three locations are called Deep, Subcortical and Lobar", "abstract, v1, v2, v3 and the journal", "paper"
    ),
    Statement("the three locations are Deep, Lobar and Subtentorial", "five_dataset.py", CODE),
    Statement(
        "replication is what `augmentation` switches; the split by image comes after it", "main.py at 45e8e62", CODE
    ),
    Statement(
        "the location head has a fourth class, no haemorrhage, and its loss is over all images",
        "main.py at 45e8e62",
        CODE,
    ),
    Statement(
        "rotation and sharpness come after the crop, normalisation with 0.5 or ImageNet's", "five_dataset.py", CODE
    ),
)

# The authors' public code, by file and commit. No address on purpose: names of patients stand in that repository, so
# that nothing but these totals may come from there.
_NOTES = "experiment notes, set of 2018 to 2021"
_LOG = "training logs, May 2024"
CODE_DATASET = (
    _code("patients_deep", 164, _NOTES),
    _code("patients_lobar", 38, _NOTES),
    _code("patients_subtentorial", 19, _NOTES),
    _code("patients_ich", 221, _NOTES),
    _code("patients_no_ich", 200, _NOTES),
    _code("images_deep", 6093, _NOTES),
    _code("images_lobar", 1656, _NOTES),
    _code("images_subtentorial", 495, _NOTES),
    _code("images_ich", 8244, _NOTES),
    _code("images_no_ich", 4407, _NOTES),
    _code("images", 12651, _LOG),
    _code("replicated_deep", 6093, _LOG),
    _code("replicated_lobar", 4968, _LOG),
    _code("replicated_subtentorial", 5940, _LOG),
    _code("replicated_ich", 17001, _LOG),
    _code("replicated_no_ich", 13221, _LOG),
    _code("replicated", 30222, _LOG),
)

_HEAD = "process_data/four_year_data_process.ipynb at 4da4b76"
CODE_SETTINGS = (
    _code("window_low_hu", 0, _HEAD),
    _code("window_high_hu", 80, _HEAD),
    _code("mask_threshold", 3, f"{_HEAD}, a byte above it"),
    _code("disk_radius", 3, f"{_HEAD}, scikit-image's disk, erosion and dilation"),
    _code("edge_columns", 1, f"{_HEAD}, each side, after the dilation"),
    _code("resize", 256, "five_dataset.py, shorter side"),
    _code("crop", 224, "five_dataset.py"),
    _code("learning_rate_sgd_early", 0.001, "main.py at 45e8e62"),
    _code("learning_rate_sgd", 0.01, "main.py at 9773588"),
    _code("momentum_sgd", 0.9, "main.py at 45e8e62 and 9773588"),
)

_LAST = "last of 50 epochs, batch 32, replicated images on both sides, mean of both heads"
_TEST = "comparative_experiments.ipynb at 9178a0f, replicated images on both sides, 3,023 tested"
CODE_ACCURACIES = (
    _code("vit_b16_random_start_held_out_both", 0.976175, f"{_LOG}: {_LAST}, 10 % held out"),
    _code("resnet18_imagenet_held_out_both", 0.997574, f"{_LOG}: {_LAST}, 15 % held out"),
    _code("vgg16_bn_imagenet_held_out_both", 0.998456, f"{_LOG}: {_LAST}, 15 % held out"),
    _code("vit_l16_imagenet_test_ich", 0.9940456500165399, _TEST),
    _code("vit_l16_imagenet_test_location", 0.9833333333333333, _TEST),
    _code("vgg16_bn_imagenet_test_ich", 1.0, _TEST),
    _code("vgg16_bn_imagenet_test_location", 0.9970255800118977, _TEST),
)

_METRICS = "comparative_experiments.ipynb at 9178a0f"
CODE_METRICS = {
    "accuracy": Statement("(TP + TN) / (TP + TN + FP + FN), of each head by itself", _METRICS, CODE),
    "precision": Statement(
        "TP / (TP + FP); `no haemorrhage` is the positive class, FP are missed haemorrhages", _METRICS, CODE
    ),
    "recall": Statement("TP / (TP + FN); `no haemorrhage` is the positive class", _METRICS, CODE),
    "f1": Statement("2 TP / (2 TP + FP + FN)", _METRICS, CODE),
    "specificity": Statement("TN / (TN + FP)", _METRICS, CODE),
    "location": Statement(
        "accuracy over the three classes; precision, recall and F1 of deep alone, no macro average; deep read as lobar "
        "is tallied as a lobar hit, and a bleed whose location is read as none is left out",
        _METRICS,
        CODE,
    ),
}

NOT_FOUND = (
    "Equations 1 to 5: which metric each defines, and whether the location head's are macro averages.",
    "Table 1: every figure; the counts in `CODE_DATASET` may or may not be what it prints.",
    "Table 2: every figure, with and without augmentation.",
    "Table 3: every figure of ViT, ResNet18 and VGG16, and what the text says of ResNet34 and AlexNet.",
    "Fig. 3 and Fig. 4: their captions and numbers.",
    "Where the accuracies 0.992, 0.974, 0.9923, 0.995 and 0.997 stand, and in which version; no abstract holds them.",
    "Sections 2.2.3 and 3.2 in full: whether the split is 8:1:1 (the code's is), what starts from pretrained weights.",
    "The limits in the authors' words, and the future work altogether.",
    "What the text says of windowing and resizing; `CODE_SETTINGS` has what the code does.",
)

FIGURES: tuple[Published, ...] = (
    *TABLE_1,
    *TABLE_2,
    *TABLE_3,
    *ACCURACIES,
    *(figure for contradiction in CONTRADICTIONS for figure in contradiction.figures),
    *SETTINGS,
    *CODE_DATASET,
    *CODE_SETTINGS,
    *CODE_ACCURACIES,
)
