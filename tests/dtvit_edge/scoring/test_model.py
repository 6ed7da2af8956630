"""The open model: opened once, used by many calls, from any thread, and closed."""

from __future__ import annotations

import gc
import multiprocessing
import os
import pickle
import shutil
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import dtvit_edge
from dtvit_edge.backends.onnxruntime import OnnxRuntimeBackend
from dtvit_edge.bundle import Bundle
from dtvit_edge.errors import ConfigError, DigestMismatch
from dtvit_edge.scoring.api import Options, score
from dtvit_edge.scoring.model import open_model
from tests.support.dicom_files import series
from tests.support.open_models import opened, slices_of


def test_several_calls_use_one_backend_and_say_what_score_says(
    tiny_bundle: Bundle, phantom_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entered = []
    enter = OnnxRuntimeBackend.__enter__
    monkeypatch.setattr(OnnxRuntimeBackend, "__enter__", lambda self: entered.append(self) or enter(self))
    with opened(tiny_bundle) as model:
        first, second = (list(model.score(phantom_folder)) for _ in range(2))
        assert len(entered) == 1
    assert first == second
    assert first[:-1] == list(score(tiny_bundle, [phantom_folder], Options(backend="onnxruntime", threads=1)))
    assert first[-1].study.study_uid == "" and [row.path for row in first[-1].slices] == ["truth.csv"]


@pytest.mark.parametrize("make", [str, Path, lambda f: [str(f)], lambda f: (p for p in [f]), lambda f: {f: 1}],
                         ids=["text", "path", "list", "generator", "dict"])  # fmt: skip
def test_a_folder_is_given_in_any_way(tiny_bundle: Bundle, tmp_path: Path, make: Any) -> None:
    series(tmp_path / "in", [0, 5, 10])
    with opened(tiny_bundle) as model:
        (result,) = model.score(make(tmp_path / "in"))
    assert result.study.scored == 3


def test_files_are_scored_once_however_often_and_by_which_name_they_are_given(
    tiny_bundle: Bundle, tmp_path: Path
) -> None:
    files = series(tmp_path / "in", [0, 5, 10])
    (tmp_path / "link").symlink_to(files[0])
    with opened(tiny_bundle) as model:
        (result,) = model.score([*files, files[0], str(files[1]), tmp_path / "link"])
    assert [row.status for row in result.slices] == ["scored"] * 3


@pytest.mark.parametrize(
    ("sources", "words"),
    [
        ("absent", "no such folder"),
        (["in", "absent"], "no such folder"),
        ([], "no folder or file was given"),
        ("", "source 1 is no path"),
        (["in", ""], "source 2 is no path"),
        (["in", None], "source 2 is no path"),
        ("a\0b", "source 1 is no path"),
        (b"in", "score_bytes"),
        ([b"in"], "source 1 is no path"),
        (None, "not NoneType"),
        (7, "not int"),
    ],
    ids=repr,
)
def test_wrong_sources_raise_at_the_call(
    tiny_bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sources: Any, words: str
) -> None:
    monkeypatch.chdir(tmp_path)
    series(tmp_path / "in", [0])
    with opened(tiny_bundle) as model, pytest.raises(ConfigError, match=words):
        model.score(sources)


def test_a_file_that_vanishes_before_it_is_read_is_a_row(tiny_bundle: Bundle, tmp_path: Path) -> None:
    files = series(tmp_path / "in", [0, 5, 10])
    with opened(tiny_bundle) as model:
        results = model.score(tmp_path / "in")  # which has walked, and read nothing yet
        files[1].unlink()
        everything = [row for result in results for row in result.slices]
    assert sorted(row.status for row in everything) == ["error", "scored", "scored"]


def test_a_threshold_of_its_own_moves_flags_and_nothing_else(tiny_bundle: Bundle, phantom_folder: Path) -> None:
    folder = phantom_folder / "study-0001"
    with opened(tiny_bundle) as model:
        (as_it_is,) = model.score(folder)
        (lenient,) = model.score(folder, threshold=1e-9)
        (strict,) = model.score(folder, threshold=1 - 1e-9)
        with pytest.raises(ConfigError, match=r"the threshold is 1\.5"):
            model.score(folder, threshold=1.5)
    assert lenient.study.flagged is True and strict.study.flagged is not True
    assert {row.ich for row in lenient.slices if row.status == "scored"} == {True}
    assert [row.ich_probability for row in strict.slices] == [row.ich_probability for row in as_it_is.slices]
    with opened(tiny_bundle, threshold=1e-9) as model:
        assert list(model.score(folder)) == [lenient]


def test_a_closed_model_says_so_and_opens_again(tiny_bundle: Bundle, tmp_path: Path) -> None:
    (file,) = series(tmp_path / "in", [0])
    model = open_model(tiny_bundle, backend="onnxruntime")
    started = model.score(file)
    model.close()
    model.close()
    assert "closed" in repr(model)
    for call in (lambda: model.score(file), lambda: next(started), lambda: model.score_bytes(file.read_bytes()),
                 lambda: model.predict(tiny_bundle.golden().pixels)):  # fmt: skip
        with pytest.raises(ConfigError, match="the model is closed"):
            call()
    with model, model.open():
        assert next(model.score(file)).study.scored == 1
    with pytest.raises(ConfigError, match="the model is closed"):
        model.score(file)


def test_it_says_what_runs(tiny_bundle: Bundle) -> None:
    with opened(tiny_bundle) as model:
        assert (model.backend, model.precision, model.bundle) == ("onnxruntime", "fp32", tiny_bundle)
        assert model.description["bundle"] == tiny_bundle.digest and model.description["threads"] == "1"
        assert "research use only" in repr(model)


def test_a_path_is_opened_under_the_conditions_of_a_bundle(tiny_bundle: Bundle) -> None:
    path = str(tiny_bundle.path)
    with open_model(path, backend="onnxruntime", expect_digest=tiny_bundle.digest) as model:
        assert model.bundle.digest == tiny_bundle.digest
    with pytest.raises(DigestMismatch):
        open_model(path, expect_digest="0" * 64)
    with pytest.raises(ConfigError, match="opened already"):
        open_model(tiny_bundle, expect_digest=tiny_bundle.digest)
    with pytest.raises(ConfigError, match="no backend called"):
        open_model(path, backend="abacus")


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="this system does not list descriptors")
def test_many_threads_get_the_answers_of_one_and_leave_nothing(tiny_bundle: Bundle, phantom_folder: Path) -> None:
    files = slices_of(phantom_folder)[8:16]
    data = [file.read_bytes() for file in files]
    with opened(tiny_bundle) as model:

        def answer(i: int) -> float | None:
            result = next(model.score(files[i % 8])) if i % 2 else model.score_bytes(data[i % 8])
            return result.slices[0].ich_probability

        alone = [answer(i) for i in range(16)]
        open_before, threads_before = len(os.listdir("/proc/self/fd")), threading.active_count()
        with ThreadPoolExecutor(8) as pool:
            together = list(pool.map(answer, range(160)))
        assert together == alone * 10 and None not in alone
        assert len(os.listdir("/proc/self/fd")) == open_before
        assert threading.active_count() == threads_before
    assert threading.active_count() == threads_before - 1


def test_generators_of_one_model_take_turns(tiny_bundle: Bundle, phantom_folder: Path) -> None:
    folders = [phantom_folder / f"study-000{i}" for i in (1, 2)]
    with opened(tiny_bundle, batch=3) as model:
        expected = [list(model.score(folder)) for folder in folders]
        one, other = (model.score(folder) for folder in folders)
        assert [next(other), next(one)] == [expected[1][0], expected[0][0]]


def test_a_generator_that_is_left_off_frees_its_threads(tiny_bundle: Bundle, phantom_folder: Path) -> None:
    with opened(tiny_bundle, batch=1) as model:
        list(model.score(slices_of(phantom_folder)[0]))  # begins the model's own thread
        before = threading.active_count()
        for leave in ("close", "drop", "raise"):
            results = model.score(phantom_folder)
            next(results)
            assert threading.active_count() > before
            if leave == "close":
                results.close()
            elif leave == "raise":
                with pytest.raises(KeyboardInterrupt):
                    results.throw(KeyboardInterrupt())
            del results
            gc.collect()
            assert threading.active_count() == before, leave
        assert next(model.score(phantom_folder)).study.scored > 20  # and the model goes on


def test_to_close_ends_what_other_threads_ask(tiny_bundle: Bundle, phantom_folder: Path) -> None:
    model = open_model(tiny_bundle, backend="onnxruntime", threads=1, batch=1)
    begun, ended = threading.Event(), []

    def score_on() -> None:
        try:
            while True:
                for _ in model.score(phantom_folder / "study-0001"):
                    begun.set()
        except ConfigError as error:
            ended.append(str(error))

    threads = [threading.Thread(target=score_on) for _ in range(3)]
    for thread in threads:
        thread.start()
    assert begun.wait(60)
    model.close()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()
    assert len(ended) == 3 and all("the model is closed" in words for words in ended)


def test_a_model_that_nobody_closes_goes_with_its_last_reference(tiny_bundle: Bundle) -> None:
    before = threading.active_count()
    model = open_model(tiny_bundle, backend="onnxruntime")
    model.predict(tiny_bundle.golden().pixels)
    assert threading.active_count() > before
    del model
    gc.collect()
    assert threading.active_count() == before


def test_to_open_and_close_again_and_again_keeps_nothing(tiny_bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[weakref.ref[OnnxRuntimeBackend]] = []
    enter = OnnxRuntimeBackend.__enter__
    monkeypatch.setattr(OnnxRuntimeBackend, "__enter__", lambda self: made.append(weakref.ref(self)) or enter(self))
    model = open_model(tiny_bundle, backend="onnxruntime")
    for _ in range(5):
        model.close()
        model.open().predict(tiny_bundle.golden().pixels)
    model.close()
    gc.collect()
    assert len(made) == 6 and not any(backend() for backend in made)


def test_two_models_answer_side_by_side(
    tiny_bundle: Bundle, tiny_bundle_without_location: Bundle, phantom_folder: Path
) -> None:
    with opened(tiny_bundle) as one, opened(tiny_bundle_without_location) as other:
        for a, b in zip(one.score(phantom_folder), other.score(phantom_folder), strict=True):
            assert a.slices != b.slices or not a.study.study_uid
            assert tuple(replace(row, location_probabilities=None) for row in a.slices) == b.slices


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of a fork with threads: what this is about
def test_a_fork_is_told_to_open_its_own(tiny_bundle: Bundle, phantom_folder: Path, tmp_path: Path) -> None:
    file = slices_of(phantom_folder)[12]
    said = tmp_path / "said"
    with opened(tiny_bundle) as model:
        results = model.score_datasets([file.read_bytes()])

        def child() -> None:
            try:
                model.score(file)
            except ConfigError as error:
                said.write_text(str(error))
            results.close()
            model.close()

        process = multiprocessing.get_context("fork").Process(target=child)
        process.start()
        process.join(60)
        assert process.exitcode == 0
        assert "before a fork" in said.read_text()
        assert next(results).study.scored == 1  # whose file the child has not taken


def test_a_model_does_not_travel(tiny_bundle: Bundle) -> None:
    with opened(tiny_bundle) as model, pytest.raises(ConfigError, match="open it there"):
        pickle.dumps(model)


def test_score_frees_what_it_opened_where_a_path_is_wrong(tiny_bundle: Bundle, tmp_path: Path) -> None:
    before = threading.active_count()
    with pytest.raises(ConfigError, match="no such folder"):
        dtvit_edge.score(tiny_bundle, [tmp_path / "absent"], Options(backend="onnxruntime"))
    assert threading.active_count() == before
    shutil.rmtree(tmp_path)
