"""What was hashed is what a library gets."""

from __future__ import annotations

import errno
import gc
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from dtvit_edge.bundle import Bundle, MemoryCopy, memory_copy, source_of
from dtvit_edge.errors import BundleError, DigestMismatch
from dtvit_edge.spec import digest_bytes
from tests.support.tiny_bundle import tiny_model, write_tiny_bundle

CONTENT = os.urandom(3 * (1 << 18) + 5)


@pytest.fixture(params=["nameless file", "anonymous memory"])
def file(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    if request.param == "anonymous memory":
        monkeypatch.setattr(memory_copy, "_nameless_file", lambda: None)
    elif memory_copy._nameless_file() is None:
        pytest.skip("this system has no files without a name in memory")
    path = tmp_path / "model"
    path.write_bytes(CONTENT)
    return path


def test_the_copy_has_the_files_bytes_and_their_digest(file: Path) -> None:
    with MemoryCopy.of_file(file, len(CONTENT)) as copy:
        assert copy.memory[:] == CONTENT
        assert copy.sha256 == digest_bytes(CONTENT)
        if copy.path:
            assert Path(copy.path).read_bytes() == CONTENT
    with MemoryCopy.of_file(file, len(CONTENT)) as copy, source_of(copy) as source:
        assert (Path(source).read_bytes() if isinstance(source, str) else source) == CONTENT


def test_a_library_that_reads_the_path_has_no_second_copy_resident_beside_its_own(file: Path) -> None:
    with MemoryCopy.of_file(file, len(CONTENT)) as copy, source_of(copy) as source:
        if not isinstance(source, str):
            return
        mappings, inode = Path("/proc/self/smaps").read_text(), os.stat(source).st_ino
        # By its inode: the command line leaves its last model to the end of the process, this one's too.
        (resident,) = re.findall(rf" {inode} +/memfd:model[^\n]*\n(?:[A-Z]\w+: .*\n)*?Rss: +(\d+) kB", mappings)
    assert int(resident) == 0


def test_what_is_written_into_the_file_behind_the_digest_reaches_nobody(file: Path) -> None:
    with MemoryCopy.of_file(file, len(CONTENT)) as copy:
        with file.open("r+b") as again:
            again.write(b"\0" * len(CONTENT))
        assert copy.memory[:] == CONTENT
        assert copy.path is None or Path(copy.path).read_bytes() == CONTENT


def test_nothing_can_change_what_a_path_leads_to(file: Path) -> None:
    with MemoryCopy.of_file(file, len(CONTENT)) as copy:
        copy.memory[0] = CONTENT[0] ^ 255  # a library may scribble in its own mapping
        if copy.path is None:
            return
        assert Path(copy.path).read_bytes() == CONTENT
        with pytest.raises(OSError), open(copy.path, "r+b", buffering=0) as again:
            again.write(b"other")


def test_nothing_is_left_open_and_a_view_outlives_its_copy(file: Path) -> None:
    before = set(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else set()
    with MemoryCopy.of_file(file, len(CONTENT)) as copy:
        view = memoryview(copy.memory)
    assert bytes(view) == CONTENT
    view.release()
    del copy
    gc.collect()
    assert not before or set(os.listdir("/proc/self/fd")) == before


@pytest.mark.parametrize("most", [len(CONTENT) - 1, 0], ids=["larger", "not empty"])
def test_a_larger_file_is_not_read(file: Path, most: int) -> None:
    with pytest.raises(OSError, match=f"at most {most} are expected"):
        MemoryCopy.of_file(file, most)


def test_an_empty_file_is_refused_in_words(file: Path) -> None:
    file.write_bytes(b"")
    with pytest.raises(OSError, match="it is empty"):
        MemoryCopy.of_file(file, 1)


@pytest.mark.parametrize("longer", [True, False], ids=["longer", "shorter"])
def test_a_file_that_changes_while_it_is_read_is_refused(
    file: Path, longer: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def changing(path: Path, *arguments: object, **more: object) -> object:
        opened = true_open_regular(path, *arguments, **more)  # type: ignore[arg-type]

        @contextmanager
        def then_changed() -> Iterator[object]:
            with opened as (stream, size):
                os.truncate(file, len(CONTENT) + (1 if longer else -1))
                yield stream, size

        return then_changed()

    true_open_regular = memory_copy.open_regular
    monkeypatch.setattr(memory_copy, "open_regular", changing)
    with pytest.raises(OSError, match="it changed while it was read"):
        MemoryCopy.of_file(file, len(CONTENT))


@pytest.mark.parametrize("number", [errno.EINVAL, errno.EPERM], ids=errno.errorcode.get)
def test_where_nothing_is_copied_inside_the_system_the_file_is_read(
    file: Path, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*arguments: object) -> int:
        raise OSError(number, os.strerror(number))

    if memory_copy._nameless_file() is None:
        pytest.skip("nothing is copied inside the system here")
    monkeypatch.setattr(memory_copy.os, "sendfile", refuse)
    with MemoryCopy.of_file(file, len(CONTENT)) as copy:
        assert copy.memory[:] == CONTENT and copy.sha256 == digest_bytes(CONTENT)


def test_a_disk_that_fails_amid_a_copy_is_said(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def once(target: int, source: int, offset: int, count: int) -> int:
        if offset:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return original(target, source, offset, count // 2)

    if memory_copy._nameless_file() is None:
        pytest.skip("nothing is copied inside the system here")
    original = os.sendfile
    monkeypatch.setattr(memory_copy.os, "sendfile", once)
    with pytest.raises(OSError, match=os.strerror(errno.EIO)):
        MemoryCopy.of_file(file, len(CONTENT))


def test_a_bundle_hands_out_copies_of_what_the_manifest_names_and_nothing_else(tmp_path: Path) -> None:
    bundle = write_tiny_bundle(tmp_path / "tiny.dtvit")
    with bundle.model_copy("fp32") as copy:
        assert copy.memory[:] == tiny_model()
    path = bundle.model_path("fp32")
    path.write_bytes(tiny_model()[:-1] + b"\0")
    with pytest.raises(DigestMismatch, match=r"model\.fp32\.onnx: sha256 is"):
        bundle.model_copy("fp32")
    path.unlink()
    with pytest.raises(BundleError, match="not in this copy of the bundle"):
        bundle.model_copy("fp32")


def test_opening_a_model_reads_no_other_models_file(typed_bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    from dtvit_edge.scoring.api import Options, open_backend

    read: list[str] = []
    true_open = os.open

    def noting_open(name: object, *arguments: object, **more: object) -> int:
        read.append(os.path.basename(str(name)))
        return true_open(name, *arguments, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(os, "open", noting_open)
    bundle = Bundle.open(typed_bundle.path)
    with open_backend(bundle, "onnxruntime", Options(precision="int8")):
        pass
    assert [name for name in read if name.endswith((".onnx", ".npy"))] == ["model.int8.onnx"]
