"""Which engines run: those built here, and those that somebody accepted by digest."""

from __future__ import annotations

import json
import os
import shutil
import stat
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dtvit_edge.bundle import Bundle
from dtvit_edge.cli.commands import main
from dtvit_edge.errors import ConfigError, EngineError
from dtvit_edge.spec import digest_bytes
from dtvit_edge.trt.device_key import KEY_FILE, make_key, read_key, state_folder
from dtvit_edge.trt.store import ENGINES, BuildRecord, find_cache, install_cache, load_engine
from tests.support.cuda.fixtures import install_engine
from tests.support.engine_records import ORIN, PLAN, put, record

FORGED = b"another program"
posix = pytest.mark.skipif(os.name != "posix", reason="modes and owners are a POSIX system's")


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A device of its own, with no key yet."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    return tmp_path / "state" / "dtvit-edge"


@pytest.fixture
def bundle(typed_bundle: Bundle, tmp_path: Path) -> Bundle:
    return Bundle.open(shutil.copytree(typed_bundle.path, tmp_path / "b.dtvit"))


def load(bundle: Bundle, **options: Any) -> Any:
    return load_engine(bundle, "tensorrt", "10.3.0", ORIN, "fp16", **options)


def on_another_device(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "another"))


@posix
def test_the_key_is_made_once_and_is_its_users_alone(state: Path) -> None:
    assert read_key() is None and not state.exists()
    key = make_key()
    assert make_key() == key == read_key() and len(key) == 32
    assert stat.S_IMODE(state.stat().st_mode) == 0o700
    assert stat.S_IMODE((state / KEY_FILE).stat().st_mode) == 0o600
    assert [path.name for path in state.iterdir()] == [KEY_FILE]


def test_the_key_lies_in_the_users_state_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("XDG_STATE_HOME")
    assert state_folder() == Path.home() / ".local" / "state" / "dtvit-edge"


@posix
@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o666])
def test_a_key_that_others_may_read_or_write_is_refused_with_the_command(state: Path, mode: int) -> None:
    make_key()
    (state / KEY_FILE).chmod(mode)
    with pytest.raises(EngineError, match=rf"chmod (600|go-w) .*{KEY_FILE}"):
        read_key()


@posix
def test_a_key_in_a_folder_that_others_may_write_is_refused(state: Path) -> None:
    make_key()
    state.chmod(0o777)
    with pytest.raises(EngineError, match=r"others may write it .*chmod go-w"):
        read_key()


@pytest.mark.parametrize("content", [b"", b"short"], ids=["empty", "short"])
def test_a_damaged_key_is_refused(state: Path, content: bytes) -> None:
    make_key()
    (state / KEY_FILE).write_bytes(content)
    with pytest.raises(EngineError, match="not a key of 32 bytes; rm "):
        make_key()


def test_a_state_folder_that_cannot_be_made_stops_a_build_before_it_begins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "file"))
    with pytest.raises(ConfigError, match=r"cannot be kept in .*; XDG_STATE_HOME names another folder"):
        make_key()


def forge(bundle: Bundle, **changes: Any) -> None:
    """Another plan, and a record that fits it and the bundle, as anybody can write one."""
    (path,) = (bundle.path / ENGINES).glob("*.json")
    forged = BuildRecord.from_json(path.read_bytes())
    forged = replace(forged, plan_sha256=digest_bytes(FORGED), plan_bytes=len(FORGED), **changes)
    (bundle.path / ENGINES / forged.plan).write_bytes(FORGED)
    path.write_text(forged.to_json())


def test_a_forged_plan_with_its_own_record_is_refused_and_not_called_proven(bundle: Bundle) -> None:
    put(bundle, record(bundle))
    assert load(bundle).proven
    forge(bundle)
    with pytest.raises(EngineError, match=r"not built by this user on this device; --accept-engine [0-9a-f]{64} .*"):
        load(bundle, unproven=True)
    with pytest.raises(EngineError, match="build it on this device: dtvit-edge build"):
        load(bundle)


def test_every_field_of_a_record_is_covered(bundle: Bundle) -> None:
    path = put(bundle, record(bundle))
    data = json.loads(path.read_text())
    for name, other in (("seconds", 2.0), ("layers_from", "x"), ("flags", []), ("mac", "0" * 64), ("mac", "ä")):
        path.write_text(json.dumps(data | {name: other}))
        with pytest.raises(EngineError, match="not built by this user on this device"):
            load(bundle)
    path.write_text(json.dumps(data))
    assert load(bundle).plan == PLAN


@pytest.mark.parametrize(
    "field", ["graph", "capabilities", "profiles", "flags", "plan", "plan_bytes", "selftest", "machine", "seconds"]
)
def test_a_record_with_fields_of_other_types_is_no_record(bundle: Bundle, field: str) -> None:
    path = put(bundle, record(bundle))
    for value in ([[]], {"a": []}, "text", 1.5):
        path.write_text(json.dumps(json.loads(path.read_text()) | {field: value}))
        with pytest.raises(EngineError):
            load(bundle)


def test_an_engine_of_another_device_runs_where_somebody_accepts_its_digest(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    put(bundle, record(bundle))
    on_another_device(monkeypatch, tmp_path)
    with pytest.raises(EngineError, match="not built by this user"):
        load(bundle)
    for digest in (digest_bytes(PLAN), digest_bytes(PLAN).upper()):
        engine = load(Bundle.open(bundle.path, accept_engines=[digest]), unproven=True)
        assert engine.plan == PLAN and not engine.proven, "its own record says that it was proved, and anybody can"
    with pytest.raises(EngineError, match="has had no self-test"):
        load(Bundle.open(bundle.path, accept_engines=[digest_bytes(PLAN)]))
    with pytest.raises(EngineError, match="not built by this user"):
        load(Bundle.open(bundle.path, accept_engines=[digest_bytes(FORGED)]), unproven=True)


def test_the_commands_refuse_and_accept_an_engine_of_another_device(
    tiny_bundle: Bundle,
    make_gpu: Callable[..., Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    make_gpu()
    bundle = Bundle.open(shutil.copytree(tiny_bundle.path, tmp_path / "t.dtvit"))
    install_engine(bundle, max_batch=2)
    on_another_device(monkeypatch, tmp_path)
    words = ["verify", str(bundle.path), "--backend", "tensorrt"]
    assert main(words) == 2
    said = capsys.readouterr().err
    assert "not built by this user on this device" in said and "dtvit-edge build" in said
    (plan,) = (bundle.path / ENGINES).glob("*.plan")
    assert main([*words, "--accept-engine", digest_bytes(plan.read_bytes())]) == 0


@posix
@pytest.mark.parametrize("mode", [0o020, 0o002], ids=["group", "others"])
@pytest.mark.parametrize("name", ["", "*.plan", "*.json"], ids=["folder", "plan", "record"])
def test_what_others_may_write_is_refused_with_the_command(bundle: Bundle, name: str, mode: int) -> None:
    put(bundle, record(bundle))
    folder = bundle.path / ENGINES
    path = next(folder.glob(name)) if name else folder
    path.chmod(path.stat().st_mode | mode)
    with pytest.raises(EngineError, match=rf"others may write it \(mode 0\d+\); chmod go-w .*{path.name}"):
        load(bundle)
    path.chmod(path.stat().st_mode & ~mode)
    assert load(bundle).plan == PLAN


@posix
@pytest.mark.skipif(os.name != "posix" or os.geteuid() != 0, reason="only root gives files away")
def test_a_plan_of_another_user_is_refused(bundle: Bundle) -> None:
    put(bundle, record(bundle))
    (plan,) = (bundle.path / ENGINES).glob("*.plan")
    os.chown(plan, 12345, -1)
    with pytest.raises(EngineError, match="belongs to another user"):
        load(bundle)


@posix
def test_a_build_under_a_loose_umask_leaves_nothing_that_others_may_write(bundle: Bundle) -> None:
    before = os.umask(0)
    try:
        put(bundle, record(bundle))
    finally:
        os.umask(before)
    for path in (bundle.path / ENGINES, *(bundle.path / ENGINES).iterdir()):
        assert not path.stat().st_mode & (0o022 if path.is_dir() else 0o137), path
    assert load(bundle).plan == PLAN


@posix
def test_a_fifo_and_a_link_are_no_engines(bundle: Bundle, tmp_path: Path) -> None:
    path = put(bundle, record(bundle))
    (plan,) = (bundle.path / ENGINES).glob("*.plan")
    plan.rename(tmp_path / "elsewhere")
    plan.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(EngineError, match="leads out of"):
        load(bundle)
    plan.unlink()
    os.mkfifo(plan)
    with pytest.raises(EngineError, match="no regular file"):
        load(bundle)
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(EngineError, match="cannot be read: it is no regular file"):
        load(bundle)


@posix
def test_a_timing_cache_that_others_may_write_is_not_used(tmp_path: Path) -> None:
    (tmp_path / "new").write_bytes(b"one")
    install_cache(tmp_path, "device", tmp_path / "new")
    (cache,) = tmp_path.glob("*.timing")
    assert find_cache(tmp_path, "device") is not None
    cache.chmod(0o666)
    assert find_cache(tmp_path, "device") is None
