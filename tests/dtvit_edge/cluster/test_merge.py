"""Shards of a folder of everything, and what their merge leaves: the bytes of one run, or a sentence."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dtvit_edge.bundle import Bundle
from dtvit_edge.cli.commands import main
from dtvit_edge.cluster.merge import merge
from dtvit_edge.errors import ConfigError, DiskFault
from dtvit_edge.scoring.api import Options
from dtvit_edge.scoring.run import RunReport, run
from dtvit_edge.scoring.shards import Shard, seal
from tests.support.made_once import made_once
from tests.support.mixed_folder import mixed_folder
from tests.support.scoring_runs import results

OPTIONS = Options(backend="onnxruntime", batch=4, threads=1, workers=1)


def shard(bundle: Bundle, folder: Path, out: Path, text: str, **more: Any) -> RunReport:
    return run(bundle, [folder], out, OPTIONS, shard=Shard.parse(text), **more)


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made_once(tmp_path_factory, "mixed", mixed_folder)


@pytest.fixture(scope="module")
def whole(mixed: Path, tiny_bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> tuple[RunReport, Path]:
    out = tmp_path_factory.mktemp("whole") / "out"
    return run(tiny_bundle, [mixed], out, OPTIONS, identify=True), out


@pytest.fixture(scope="module")
def three(mixed: Path, tiny_bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three finished shards, of which tests change copies."""
    folder = tmp_path_factory.mktemp("three")
    for i in (1, 2, 3):
        shard(tiny_bundle, mixed, folder / str(i), f"{i}/3")
    return folder


@pytest.mark.parametrize("count", [1, 2, 7])
def test_merged_shards_are_the_bytes_of_one_run(
    count: int, mixed: Path, whole: tuple[RunReport, Path], tiny_bundle: Bundle, tmp_path: Path
) -> None:
    outs = [tmp_path / str(i) for i in range(count)]
    done = [
        shard(tiny_bundle, mixed, out, f"{i + 1}/{count}", identify=True) for i, out in reversed([*enumerate(outs)])
    ]
    assert sum(report.processed for report in done) == whole[0].processed, "no slice is scored twice"
    merged = merge(outs, tmp_path / "merged")
    assert results(tmp_path / "merged") == results(whole[1])
    assert (merged.counts, merged.reasons) == (whole[0].counts, whole[0].reasons)
    assert (merged.exit_status, merged.shards) == (whole[0].exit_status, count)
    assert merged.studies == len(whole[0].studies)


def test_an_interrupted_shard_goes_on(
    mixed: Path, three: Path, tiny_bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dtvit_edge.scoring.journal import Journal

    append, calls = Journal.append, iter(range(99))

    def failing(journal: Journal, images: Any) -> None:
        append(journal, images)
        if next(calls) == 1:
            raise DiskFault("the disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(Journal, "append", failing)
        with pytest.raises(DiskFault):
            shard(tiny_bundle, mixed, tmp_path / "2", "2/3")
    with pytest.raises(ConfigError, match="holds no finished shard"):
        merge([three / "1", tmp_path / "2", three / "3"], tmp_path / "out")
    assert shard(tiny_bundle, mixed, tmp_path / "2", "2/3").resumed == 8
    assert results(tmp_path / "2") == results(three / "2")
    assert not (tmp_path / "out").exists()


def edited(out: Path, change: Callable[[dict[str, Any]], object], *, sealed: bool = True) -> None:
    report = json.loads((out / "run.json").read_text())
    change(report)
    if sealed and isinstance(report.get("shard"), dict):
        report["shard"].pop("check")
        seal(report)
    (out / "run.json").write_text(json.dumps(report))


REFUSED: dict[str, tuple[Callable[[Path], object], list[str], str]] = {
    "missing": (lambda f: None, ["1", "3"], r"shard 2/3 is missing; a result of fewer"),
    "doubled": (lambda f: shutil.copytree(f / "2", f / "again"), ["1", "2", "again", "3"], r"both hold shard 2/3"),
    "unfinished": (lambda f: (f / "2" / "run.json").unlink(), ["1", "2", "3"], r"2 holds no finished shard"),
    "a whole run": (lambda f: edited(f / "2", lambda r: r.pop("shard")), ["1", "2", "3"], r"2 holds no shard, but"),
    "another identity": (
        lambda f: edited(f / "2", lambda r: r["shard"]["identity"]["thresholds"].update(study=0.25)),
        ["1", "2", "3"],
        r"another run than .*1 \(thresholds study: 0.5 there, 0.25 here\)",
    ),
    "other files": (lambda f: edited(f / "2", lambda r: r["shard"].update(seen="0")), ["1", "2", "3"], r"saw other fi"),
    "fewer lines than it counts": (
        lambda f: edited(f / "2", lambda r: r["shard"].update(count=2, studies=[])), ["1", "2", "3"], r"counts other",
    ),
    "another table": (
        lambda f: (f / "2" / "slices.csv").write_text("study_uid"), ["1", "2", "3"], r"slices.csv is not the table",
    ),
    "a study of another shard": (
        lambda f: edited(f / "2", lambda r: r["shard"].update(number=3)), ["1", "2", "3"], r"a study of another shard",
    ),
    "no JSON of ours": (lambda f: (f / "2" / "run.json").write_text("[]"), ["1", "2", "3"], r"2 holds no shard, but"),
    "a mark that is none": (lambda f: edited(f / "2", lambda r: r.update(shard=7)), ["1", "2", "3"], r"AttributeError"),
    "counts that its tables do not have": (
        lambda f: edited(f / "2", lambda r: r["counts"]["slices"].clear(), sealed=False), ["1", "2", "3"],
        r"run.json was changed since its shard wrote it; run the shard again",
    ),
    "digests that are none": (
        lambda f: edited(f / "2", lambda r: r["shard"].update(sha256=[])), ["1", "2", "3"], r"not the table",
    ),
    "a number without end": (
        lambda f: edited(f / "2", lambda r: r["shard"]["studies"][0].__setitem__(1, float("inf"))), ["1", "2", "3"],
        r"OverflowError",
    ),
    "a bundle that is none": (
        lambda f: edited(f / "1", lambda r: r.update(bundle=[])), ["1", "2", "3"], r"is not as `score",
    ),
    "counts that are none": (
        lambda f: edited(f / "1", lambda r: r["counts"].update(studies=[])), ["1", "2", "3"], r"is not as `score",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("change", "given", "message"), REFUSED.values(), ids=REFUSED.keys())
def test_what_is_no_whole_run_is_refused_with_a_sentence(
    change: Callable[[Path], object], given: list[str], message: str, three: Path, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(three, tmp_path / "shards"))
    change(folder)
    with pytest.raises(ConfigError, match=message):
        merge([folder / name for name in given], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_shards_over_folders_that_changed_in_between_are_refused(
    tiny_bundle: Bundle, three: Path, tmp_path: Path
) -> None:
    later = mixed_folder(tmp_path / "later")
    (later / "plain-1" / "late.dcm").write_bytes(b"came later")
    shard(tiny_bundle, later, tmp_path / "2", "2/3")
    with pytest.raises(ConfigError, match="saw other files below its folders than"):
        merge([three / "1", tmp_path / "2", three / "3"], tmp_path / "out")


def test_shards_that_saw_other_headers_in_files_of_the_same_names_and_sizes_are_refused(
    tiny_bundle: Bundle, tmp_path: Path
) -> None:
    """Else a slice that changed its study between both would be in two studies, or in none."""
    folder = mixed_folder(tmp_path / "in")
    shard(tiny_bundle, folder, tmp_path / "1", "1/2")
    files = [next(f for f in sorted((folder / f"plain-{i}").iterdir()) if f.is_file()) for i in (1, 4)]
    contents = [file.read_bytes() for file in files]
    assert len({len(content) for content in contents}) == 1
    for file, content in zip(files, reversed(contents), strict=True):
        file.write_bytes(content)
    shard(tiny_bundle, folder, tmp_path / "2", "2/2")
    with pytest.raises(ConfigError, match="saw other files below its folders than"):
        merge([tmp_path / "1", tmp_path / "2"], tmp_path / "out")


def test_copies_of_the_folders_will_do(
    tiny_bundle: Bundle, three: Path, whole: tuple[RunReport, Path], tmp_path: Path
) -> None:
    """Machines without a share have the folders each for itself, under another name and with other times."""
    shard(tiny_bundle, mixed_folder(tmp_path / "here"), tmp_path / "2", "2/3")
    merge([three / "1", tmp_path / "2", three / "3"], tmp_path / "out")
    assert results(tmp_path / "out")["slices.csv"] == results(whole[1])["slices.csv"]


def test_a_folder_of_one_shard_is_not_taken_for_anothers(
    mixed: Path, three: Path, tiny_bundle: Bundle, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(three / "1", tmp_path / "1"))
    with pytest.raises(ConfigError, match=r"another run \(shard: 1/3 there, 2/3 here\)"):
        shard(tiny_bundle, mixed, folder, "2/3")
    with pytest.raises(ConfigError, match=r"another run \(shard: 1/3 there, none here\)"):
        run(tiny_bundle, [mixed], folder, OPTIONS)
    with pytest.raises(ConfigError, match="is one of the shards"):
        merge([three / "1", folder], folder, overwrite=True)


def test_the_commands_of_shards_and_their_merge(
    mixed: Path, whole: tuple[RunReport, Path], tiny_bundle: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    outs = [str(tmp_path / str(i)) for i in (1, 2)]
    for i, out in enumerate(outs, start=1):
        arguments = ["score", str(tiny_bundle.path), str(mixed), "-o", out, "--backend", "onnxruntime", "--identify"]
        assert main([*arguments, "--shard", f"{i}/2"]) == 3
        assert main([*arguments, "--shard", f"{i}/2", "--watch", "1"]) == 2
    shown = capsys.readouterr()
    assert "--watch is for a run of all studies, not with --shard" in shown.err
    of_score = shown.out.splitlines()[-1]
    assert main(["merge", *outs, "-o", str(tmp_path / "out")]) == whole[0].exit_status == 3
    assert results(tmp_path / "out") == results(whole[1])
    said = capsys.readouterr().out
    assert "studies of 2 shards" in said and said.splitlines()[-1] == of_score != "", "it ends as score does"
    (tmp_path / "out" / "report").mkdir()
    (tmp_path / "out" / "report" / "index.html").write_text("of other results")
    assert main(["merge", *outs, "-o", str(tmp_path / "out"), "--overwrite", "--json"]) == 3
    assert not (tmp_path / "out" / "report" / "index.html").exists(), "pages of other results would lie beside these"
    summary = json.loads(capsys.readouterr().out)
    assert (summary["shards"], summary["model_status"]) == (2, tiny_bundle.manifest.training)


def test_a_merge_replaces_no_run_of_score_unless_it_is_asked_to(
    three: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], tiny_bundle: Bundle, mixed: Path
) -> None:
    out = tmp_path / "out"
    run(tiny_bundle, [next(path for path in sorted(mixed.iterdir()) if path.is_dir())], out, OPTIONS)
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    command = ["merge", *(str(three / str(i)) for i in (1, 2, 3)), "-o", str(out)]
    assert main(command) == 2
    assert "holds a run of `score`; give another folder or --overwrite" in " ".join(capsys.readouterr().err.split())
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before
    assert main([*command, "--overwrite"]) == 3
    assert not (out / "journal.jsonl").exists() and main(command) == 3


def test_the_same_merge_again_gives_the_same_bytes_and_another_result_is_named_and_kept(
    three: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], tiny_bundle: Bundle, mixed: Path
) -> None:
    out = tmp_path / "out"
    command = ["merge", *(str(three / str(i)) for i in (1, 2, 3)), "-o", str(out)]
    assert main(command) == 3
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    (out / "notes.txt").write_text("made of it since")
    assert main(command) == 3
    (out / "run.json").unlink()  # a merge that was cut off behind its tables
    (out / "notes.txt").unlink()
    assert main(command) == 3
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before
    shard(tiny_bundle, mixed, tmp_path / "all", "1/1")
    capsys.readouterr()
    for other in (
        ["merge", str(tmp_path / "all"), "-o", str(out)],
        ["score", str(tiny_bundle.path), str(mixed), "-o", str(out)],
    ):
        assert main(other) == 2
        said = " ".join(capsys.readouterr().err.split())
        assert "holds a result without the journal that a run goes on from" in said and "--overwrite" in said
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before


@pytest.mark.parametrize("text", ["0/3", "4/3", "1", "1/0", "-1/3", "1/3/5", "a/b", "1/1000000"])
def test_what_is_no_shard_is_refused(text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["score", "model.dtvit", str(tmp_path), "--shard", text]) == 2
    assert "a shard is I/N" in capsys.readouterr().err


def test_a_shard_to_which_no_study_fell_has_done_its_part(tiny_bundle: Bundle, tmp_path: Path) -> None:
    mixed_folder(tmp_path / "in")
    done = [shard(tiny_bundle, tmp_path / "in", tmp_path / str(i), f"{i}/64") for i in range(1, 5)]
    empty = [report for report in done if not report.counts]
    assert empty and all(report.exit_status == 0 for report in empty)
