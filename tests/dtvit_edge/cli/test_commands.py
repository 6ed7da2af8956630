"""The command line as a user meets it."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from dtvit_edge.bundle import Bundle
from dtvit_edge.cli.commands import WORKSTATION_COMMANDS, cli, main
from tests.support.data import ROOT
from tests.support.dicom_files import series

COMMANDS = sorted({*cli.commands, *WORKSTATION_COMMANDS})


def test_the_commands_are_these() -> None:
    expected = (
        "bench build calibrate compat deploy doctor evaluate export inspect merge phantom replay report score serve "
        "sign sr threshold train triton tune verify view"
    )
    assert " ".join(COMMANDS) == expected


@pytest.mark.parametrize("name", [None, *COMMANDS])
def test_every_command_has_help(name: str | None, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([name, "--help"] if name else ["--help"]) == 0
    text = capsys.readouterr().out
    assert "Usage: dtvit-edge" in text
    assert all(command in text for command in (COMMANDS if name is None else [name]))


def test_score_of_an_empty_text_reads_nothing(
    tiny_bundle: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    series(tmp_path / "in", [0, 5, 10])
    monkeypatch.chdir(tmp_path / "in")
    assert main(["score", str(tiny_bundle.path), "", "-o", str(tmp_path / "out")]) == 2
    assert "it is empty, as of a variable that is not set" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_score_writes_results_and_says_where(
    tiny_bundle: Bundle, phantom_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    arguments = ["-q", "score", str(tiny_bundle.path), str(phantom_folder), "-o", str(out), "--backend", "onnxruntime"]
    assert main(arguments) == 0
    text = capsys.readouterr().out
    assert str(out / "studies.csv") in text
    assert "research use only, not a medical device" in text
    assert "not flagged is not a normal study" in text
    assert main([*arguments, "--json"]) == 0
    summary = json.loads(capsys.readouterr().out)
    assert summary["slices"]["scored"] > 30
    assert summary["model_status"] == "synthetic"


def test_an_untrained_location_head_is_said_once_in_words(
    tiny_bundle: Bundle, tiny_bundle_without_location: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    series(tmp_path / "in", [0, 5, 10])
    for bundle, heads in ((tiny_bundle, []), (tiny_bundle_without_location, ["location"])):
        score = ["-q", "score", str(bundle.path), str(tmp_path / "in"), "-o", str(tmp_path / bundle.digest)]
        for arguments in (score, ["inspect", str(bundle.path)]):
            assert main(arguments) == 0
            assert capsys.readouterr().out.count("location head is untrained") == len(heads)
        assert main([*score, "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["untrained_heads"] == heads
        assert main(["inspect", str(bundle.path), "--json"]) == 0
        assert json.loads(capsys.readouterr().out).get("untrained_heads", []) == heads


def test_dry_run_writes_nothing(tiny_bundle: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    series(tmp_path / "in", [0, 5, 10], ContrastBolusAgent="X")
    assert main(["score", str(tiny_bundle.path), str(tmp_path / "in"), "--dry-run", "--json"]) == 4
    found = json.loads(capsys.readouterr().out)
    assert [(s["slices"], s["refused"]) for s in found["series"]] == [(3, "contrast")]
    assert main(["score", str(tiny_bundle.path), str(tmp_path / "in"), "--dry-run"]) == 4
    assert "refused: contrast" in capsys.readouterr().out
    series(tmp_path / "in" / "plain", [0, 5, 10], uid="2.25.78")
    assert main(["score", str(tiny_bundle.path), str(tmp_path / "in"), "--dry-run"]) == 0
    assert sorted(p.name for p in tmp_path.iterdir()) == ["in"]


@pytest.mark.parametrize("damage", ["byte", "missing", "version"])
def test_a_damaged_bundle_is_refused_before_anything_is_written(
    tiny_bundle: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str], damage: str
) -> None:
    bundle = Path(shutil.copytree(tiny_bundle.path, tmp_path / "b.dtvit"))
    if damage == "byte":
        (bundle / "model.fp32.onnx").write_bytes((bundle / "model.fp32.onnx").read_bytes()[:-1] + b"\x07")
    elif damage == "missing":
        (bundle / "model.fp32.onnx").unlink()
    else:
        (bundle / "manifest.json").write_text(
            (bundle / "manifest.json").read_text().replace('"format": 2', '"format": 9')
        )
    series(tmp_path / "in", [0, 5])
    assert main(["score", str(bundle), str(tmp_path / "in"), "-o", str(tmp_path / "out")]) == 2
    *said, last = capsys.readouterr().err.splitlines()
    assert last.startswith("error: ")
    # A model is hashed when it is loaded, while headers may be read already; all else is refused before that.
    meanwhile = ("INFO backend", "headers: ") if damage == "byte" else ("INFO backend",)
    assert [line for line in said if not line.startswith(meanwhile)] == []
    assert not (tmp_path / "out").exists()


@pytest.fixture
def thin_bundle(typed_bundle: Bundle, tmp_path: Path) -> Path:
    """A copy that has fp32 and int8 alone."""
    path = Path(shutil.copytree(typed_bundle.path, tmp_path / "thin.dtvit"))
    for precision in ("fp32-op16", "fp16", "int8-fp16", "fp8"):
        (path / f"model.{precision}.onnx").unlink()
    return path


LACKS = "model.fp16.onnx, model.fp32-op16.onnx, model.fp8.onnx, model.int8-fp16.onnx: not in this copy of the bundle"


def test_a_thin_copy_is_shown_verified_and_scored_for_what_it_is(
    thin_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle = str(thin_bundle)
    absent = ["model.fp16.onnx", "model.fp32-op16.onnx", "model.fp8.onnx", "model.int8-fp16.onnx"]
    for command in (["inspect", bundle], ["-q", "verify", bundle, "--backend", "onnxruntime"]):
        assert main(command) == 0
        said = capsys.readouterr().out
        assert LACKS in said
        assert "verify" not in command or "digests: 6 files match the manifest" in said
        assert main([*command, "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["absent"] == absent
    series(tmp_path / "in", [0, 5])
    score = ["-q", "score", bundle, str(tmp_path / "in"), "-o", str(tmp_path / "out"), "--backend", "onnxruntime"]
    assert main([*score, "--precision", "fp32-op16"]) == 2
    assert "model.fp32-op16.onnx: not in this copy of the bundle" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
    assert main(score) == 0


def test_verify_does_not_pass_where_nothing_was_run(
    thin_bundle: Path, typed_bundle: Bundle, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copy(typed_bundle.model_path("fp16"), thin_bundle)
    for precision in ("fp32", "int8"):
        (thin_bundle / f"model.{precision}.onnx").unlink()
    assert main(["-q", "verify", str(thin_bundle), "--backend", "onnxruntime"]) == 1
    said = capsys.readouterr()
    assert "digests: 5 files match the manifest" in said.out
    assert said.err == (
        "error: no golden slice was run: this copy has fp16; "
        "onnxruntime runs fp32, fp32-op16, int8, fp32-trimmed, int8-trimmed\n"
    )


def test_compat_says_that_a_thin_copy_runs_nothing(thin_bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for precision in ("fp32", "int8"):
        (thin_bundle / f"model.{precision}.onnx").unlink()
    (thin_bundle / "engines").mkdir()
    (thin_bundle / "engines" / "some.plan").write_bytes(b"x")
    assert main(["compat", str(thin_bundle), "--target", "cpu"]) == 1
    said = capsys.readouterr()
    assert "cpu can run no file of this copy of the bundle" in said.err
    assert "absent" in said.out


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["inspect", "BUNDLE", "--precision", "fp16"], 2, "go with --device-files"),
        (["inspect", "BUNDLE", "--tensorrt", "10.3"], 2, "go with --device-files"),
        (
            ["inspect", "BUNDLE", "--device-files", "jetpack5", "--precision", "int8"],
            2,
            "makes int8; `dtvit-edge",
        ),
        (["score"], 2, "Missing argument"),
        (["frobnicate"], 2, "No such command"),
        (["score", "BUNDLE", "IN"], 2, "Missing option '-o'"),
        (["score", "BUNDLE", "ABSENT", "-o", "OUT"], 2, "no such folder"),
        (["score", "BUNDLE", "IN", "-o", "OUT", "--backend", "cuda"], 2, "no backend called 'cuda'"),
        (["score", "BUNDLE", "IN", "-o", "OUT", "--precision", "int8"], 2, "no int8 model"),
        (["score", "BUNDLE", "IN", "-o", "OUT", "--expect-digest", "00"], 2, "digest is"),
        (["score", "BUNDLE", "IN", "-o", "BUNDLE"], 2, "holds no run"),
        (["verify", "IN"], 2, "no bundle here"),
        (["inspect", "IN"], 2, "no bundle here"),
    ],
)
def test_wrong_usage_is_status_2_and_in_words(
    tiny_bundle: Bundle,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    status: int,
    message: str,
) -> None:
    series(tmp_path / "in", [0])
    places = {"BUNDLE": tiny_bundle.path, "IN": tmp_path / "in", "OUT": tmp_path / "out", "ABSENT": tmp_path / "absent"}
    assert main([str(places.get(a, a)) for a in arguments]) == status
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_choice_that_is_missing_is_listed_without_spelled_tabs(
    tiny_bundle: Bundle, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["compat", str(tiny_bundle.path)]) == 2
    said = capsys.readouterr().err
    assert "  jetpack6,\n" in said and "\\t" not in said and "\t" not in said


def test_verify_passes_and_fails(
    tiny_bundle: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main(["verify", str(tiny_bundle.path)]) == 0
    assert "pass" in capsys.readouterr().out
    assert main(["verify", str(tiny_bundle.path), "--json", "--backend", "onnxruntime"]) == 0
    assert [r["passed"] for r in json.loads(capsys.readouterr().out)["selftests"]] == [True]
    from dtvit_edge.backends.onnxruntime import OnnxRuntimeBackend

    honest = OnnxRuntimeBackend.infer
    monkeypatch.setattr(OnnxRuntimeBackend, "infer", lambda self, p: {k: v + 1e-3 for k, v in honest(self, p).items()})
    assert main(["verify", str(tiny_bundle.path), "--backend", "onnxruntime"]) == 1
    streams = capsys.readouterr()
    assert "FAIL" in streams.out
    assert "disagrees" in streams.err


def test_inspect_and_doctor(tiny_bundle: Bundle, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", str(tiny_bundle.path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["digest"] == tiny_bundle.digest
    assert main(["inspect", str(tiny_bundle.path)]) == 0
    assert tiny_bundle.digest in capsys.readouterr().out
    assert main(["doctor", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["backends"]["onnxruntime"] == "available"
    assert "pylibjpeg" in facts["decoders"]["RLE Lossless (1.2.840.10008.1.2.5)"]
    assert main(["doctor"]) == 0
    assert "JPEG-LS" in capsys.readouterr().out


def test_an_interruption_is_status_130(
    tiny_bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from dtvit_edge.scoring import run

    def interrupted(*arguments: object, **options: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(run, "run", interrupted)
    series(tmp_path / "in", [0])
    assert main(["score", str(tiny_bundle.path), str(tmp_path / "in"), "-o", str(tmp_path / "out")]) == 130
    assert "the same command continues" in capsys.readouterr().err


def test_a_workstation_command_without_its_packages_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(WORKSTATION_COMMANDS, "export", ("absent_package.command", "export", "x"))
    assert main(["export", "x"]) == 2
    said = capsys.readouterr().err
    assert "comes with a checkout that is installed with -e, not with the wheel" in said
    assert "\n  pip install --upgrade 'pip>=25.1'\n  pip install -e . --group workstation\n" in said


def test_runtime_commands_never_load_torch_timm_or_onnx(tiny_bundle: Bundle, tmp_path: Path) -> None:
    series(tmp_path / "in", [0, 5])
    bundle, folder = str(tiny_bundle.path), str(tmp_path / "in")
    lines = [
        ["--help"],
        ["export", "--help"],
        ["train", "--help"],
        ["score", bundle, folder, "-o", str(tmp_path / "out")],
        ["verify", bundle],
        ["inspect", bundle],
        ["compat", bundle, "--target", "jetpack6"],
        ["doctor"],
        ["phantom", str(tmp_path / "phantoms"), "--studies", "1"],
    ]
    code = (
        "import json, sys; from dtvit_edge.cli.commands import main\n"
        "for line in json.loads(sys.argv[1]):\n"
        "    status = main(line)\n"
        "    heavy = {'torch', 'timm', 'onnx', 'torchvision', 'sklearn'} & set(sys.modules)\n"
        "    if status or heavy: sys.exit(f'{line}: status {status}, loaded {heavy}')\n"
        "print(len(json.loads(sys.argv[1])), 'commands ran')"
    )
    done = subprocess.run([sys.executable, "-c", code, json.dumps(lines)], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith(f"{len(lines)} commands ran\n")


def test_importing_the_package_loads_little() -> None:
    code = (
        "import sys; before = set(sys.modules); import dtvit_edge; "
        "loaded = [m for m in set(sys.modules) - before if sys.modules[m] is not None]; "
        "print(sorted({m.split('.')[0] for m in loaded} - sys.stdlib_module_names))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "['dtvit_edge']"


def _options_of(command: click.Command) -> Iterator[click.Parameter]:
    yield from command.params
    for below in getattr(command, "commands", {}).values():
        yield from _options_of(below)


@pytest.mark.parametrize("name", COMMANDS)
def test_an_option_that_takes_a_number_in_a_range_takes_none_that_is_not_finite(name: str) -> None:
    command = cli.load(name) if name in WORKSTATION_COMMANDS else cli.commands[name]
    for option in _options_of(command):
        # `threshold --sensitivity` is refused in words of its own (test_threshold).
        if isinstance(option.type, click.FloatRange) and option.name != "sensitivity":
            for value in ("nan", "inf", "-inf", "1e400"):
                with pytest.raises(click.BadParameter):
                    option.type.convert(value, option, None)


@pytest.mark.parametrize("name", COMMANDS)
def test_no_command_takes_an_empty_text(name: str) -> None:
    """A variable of the shell that is not set gives one: as a path it is the folder that one is in, else a default."""
    command = cli.load(name) if name in WORKSTATION_COMMANDS else cli.commands[name]
    kinds = [o.type for o in _options_of(command) if isinstance(o.type, (click.Path, click.types.StringParamType))]
    for kind in kinds:
        with pytest.raises(click.BadParameter, match="it is empty"):
            kind.convert("", None, None)
    assert kinds or name == "doctor"


def test_an_address_that_is_empty_opens_no_port(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """To a socket it is every address of the machine."""
    assert main(["view", str(tmp_path), "--host", ""]) == 2
    assert "'--host': it is empty" in capsys.readouterr().err
