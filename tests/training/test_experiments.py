from __future__ import annotations

import csv
from pathlib import Path

import click
import pytest
from click.testing import CliRunner
from matplotlib.figure import Figure

from dtvit_edge.errors import ConfigError
from evaluation import metrics
from evaluation.records import read
from evaluation.repeating import command_line
from training import paper_tables, report
from training.config import TrainConfig
from training.experiments import ENCODERS, main, of_encoders, plan


def test_table_3_is_the_papers_five_encoders_in_one_budget() -> None:
    base = TrainConfig(training="synthetic", epochs=2, epoch_images=64)
    configs = dict(plan(base, ENCODERS, arms="none", protocols=False))
    assert set(configs) == {"vit_base_patch16_224", "resnet18", "vgg16", "resnet34", "alexnet"}
    assert len({repr(sorted(c.to_dict().items())).replace(c.encoder, "") for c in configs.values()}) == 1


def test_the_first_encoder_has_the_other_arm_and_the_papers_protocol() -> None:
    configs = dict(plan(TrainConfig(), ("resnet18", "alexnet"), arms="first", protocols=True))
    assert list(configs) == ["resnet18", "resnet18-other-arm", "alexnet", "resnet18-paper-protocol"]
    assert not configs["resnet18-other-arm"].augment
    assert configs["resnet18-paper-protocol"].paper_protocol


def test_seeds_share_a_split_and_a_batch_and_both_arms_are_trained_under_each() -> None:
    configs = dict(plan(TrainConfig(), ("resnet18",), arms="all", protocols=False, seeds=3))
    assert list(configs)[2:4] == ["resnet18-seed-1", "resnet18-other-arm-seed-1"] and len(configs) == 6
    assert {config.seed for config in configs.values()} == {0, 1, 2}
    assert {(config.split_seed, config.batch_size) for config in configs.values()} == {(0, 32)}


def test_an_encoder_may_have_a_rate_and_weights_of_its_own_and_be_trained_once(tmp_path: Path) -> None:
    weights = tmp_path / "weights.safetensors"
    weights.touch()
    names = ("resnet18", "alexnet")
    own = of_encoders(names, ["alexnet"], rates=["alexnet=0.001"], inits=[f"resnet18={weights}"])
    configs = dict(plan(TrainConfig(), names, arms="none", protocols=True, seeds=2, once=["alexnet"], own=own))
    assert list(configs) == ["resnet18", "alexnet", "resnet18-paper-protocol", "resnet18-seed-1"]
    assert (configs["alexnet"].learning_rate, configs["resnet18"].learning_rate) == (0.001, 0.01)
    assert of_encoders(names, patch_losses=["alexnet=20"])["alexnet"] == {"patch_weight": 20.0}
    assert configs["resnet18-paper-protocol"].init == weights and configs["alexnet"].init is None
    for rates, inits, once in ((["alexnet"], [], []), (["vgg16=1"], [], []), (["alexnet=x"], [], []),
                               ([], ["alexnet=none"], []), ([], [], ["vgg16"])):  # fmt: skip
        with pytest.raises(ConfigError, match=r"alexnet|none|vgg16"):
            of_encoders(names, once, rates=rates, inits=inits)


def test_an_encoder_that_is_named_twice_is_refused(tmp_path: Path) -> None:
    done = CliRunner().invoke(
        main, ["phantoms:1", "-o", str(tmp_path / "out"), "--encoders", "alexnet,alexnet", "--training", "synthetic"]
    )
    assert done.exit_code == 2 and "names an encoder twice" in done.output


def test_a_loss_on_patches_is_refused_before_anything_is_trained_where_no_haemorrhage_is_outlined(
    few_phantoms: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    asked = [str(few_phantoms), "-o", str(out), "--encoders", "test_resnet,test_vit", "--patch-loss", "test_vit=20"]
    done = CliRunner().invoke(main, [*asked, "--training", "synthetic", "--workers", "1"])
    assert done.exit_code == 2 and "outlined" in done.output and not out.exists()


def test_one_command_trains_and_evaluates_and_goes_on_where_it_stopped(
    few_phantoms: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Pictures and the paper's own tables are most of the time, and test_evaluate.py's.
    monkeypatch.setattr(Figure, "savefig", lambda *_, **__: None)
    monkeypatch.setattr(report, "page", lambda *_: "")
    monkeypatch.setattr(metrics, "RESAMPLES", 3)
    monkeypatch.setattr(paper_tables, "readings_table", paper_tables.table_1)
    budget = "--epochs 1 --epoch-images 8 --batch 8 --workers 1 --threads 1 --training synthetic".split()
    arguments = [str(few_phantoms), "-o", str(tmp_path / "out"), "--encoders", "test_resnet,test_vit", *budget]
    arguments += ["--record", str(tmp_path / "records.jsonl")]
    done = CliRunner().invoke(main, arguments)
    assert done.exit_code == 0, done.output
    with (tmp_path / "out" / "report" / "table3.csv").open(newline="") as stream:
        assert {row["model"] for row in csv.DictReader(stream)} == {"test_resnet", "test_vit"}
    assert len(list(read(tmp_path / "records.jsonl"))) == 4, (
        "of one class alone there is no AUC, and nothing to compare"
    )
    before = (tmp_path / "out" / "test_vit" / "best.safetensors").stat().st_mtime_ns
    (tmp_path / "out" / "report" / "table3.csv").unlink()
    assert CliRunner().invoke(main, arguments).exit_code == 0
    assert (tmp_path / "out" / "report" / "table3.csv").is_file()
    assert (tmp_path / "out" / "test_vit" / "best.safetensors").stat().st_mtime_ns == before


def test_the_recorded_line_repeats_the_training_and_names_no_folder() -> None:
    asked = ["/data/DOE^JANE/few.csv", "-o", "/data/out", "--encoders", "resnet18", "--init", "resnet18=/w/a=b.st"]
    asked += ["--no-protocols", "--no-augment", "--no-train", "--record", "/data/r.jsonl", "--training", "synthetic"]
    with click.Context(main) as context:
        main.parse_args(context, asked)
        said = command_line(context, "experiments")
    assert said == (
        "experiments SLICES --out OUT --encoders resnet18 --init resnet18=a=b.st --no-protocols "
        "--training synthetic --no-augment"
    )


@pytest.mark.parametrize("data", ["phantoms:0", "none.csv"])
def test_data_that_are_none_are_wrong_usage(tmp_path: Path, data: str) -> None:
    done = CliRunner().invoke(main, [data, "-o", str(tmp_path / "out"), "--training", "synthetic"])
    assert done.exit_code == 2
    assert "Error" in done.output
