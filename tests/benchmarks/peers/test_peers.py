"""The peers are the same model and the same treatment; what is absent or disagrees is named, and not timed."""

from __future__ import annotations

import re
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmarks.peers import EAGER, MODELS, OPENCV, PREPROCESSING, QUANTISERS, SCIKIT_IMAGE, Peer, chosen_peers, trtexec
from benchmarks.peers.baselines import WITHOUT_WEIGHTS, Baselines
from benchmarks.peers.preprocessing import read
from benchmarks.results import names
from benchmarks.run import bench
from benchmarks.settings import QUICK, Settings
from dtvit_edge.bundle import Bundle
from dtvit_edge.dicom.header import read_headers
from dtvit_edge.dicom.pixels import SliceReader
from dtvit_edge.errors import ConfigError, VerdictError
from dtvit_edge.preprocess.cpu import CpuPreprocessor
from dtvit_edge.progress import silent
from dtvit_edge.spec import OUTPUT_NAMES, PreprocessSpec, Window, WindowKind
from export.checkpoint import save_checkpoint
from export.untrained import untrained_model
from tests.support.bench_runs import TINY
from tests.support.data import ROOT

EVERY = chosen_peers((), every=True)
SPECS = {
    "one window": PreprocessSpec(),
    "three windows": PreprocessSpec(windows=(Window(), Window(80.0, 200.0), Window(40.0, 380.0, WindowKind.LINEAR))),
    "literal crop": PreprocessSpec(resize=None),
}


@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)
@pytest.mark.parametrize("peer", PREPROCESSING, ids=lambda peer: peer.name)
def test_plain_preprocessing_is_the_same_treatment(peer: Peer, spec: PreprocessSpec, phantom_folder: Path) -> None:
    if (why_not := peer.why_not()) is not None:
        pytest.skip(why_not)
    prepare, files = peer.load(), sorted(phantom_folder.rglob("IM*"))[8:20:4]
    assert len(files) == 3
    for file in files:
        (header,) = read_headers(file, file.name)
        ours = CpuPreprocessor(spec)(SliceReader().read(header).stored, header.encoding).pixels / 255
        mean, std = (np.array(values)[:, None, None] for values in (spec.mean, spec.std))
        theirs = prepare(read(file).hu, spec) * std + mean
        assert theirs.shape == (3, spec.crop, spec.crop)
        difference = np.abs(theirs - ours)
        assert difference.mean() < 0.01 and (difference > 0.2).mean() < 0.01


def test_peers_stand_beside_the_bundle_and_decide_the_same(
    small_bundle: Bundle, small_checkpoint: Path, phantom_folder: Path, tmp_path: Path
) -> None:
    folders = tuple(sorted(path for path in phantom_folder.iterdir() if path.is_dir()))
    settings = Settings(
        effort=replace(TINY, workers=(), rounds=1, quick=True), studies=folders, weights=(small_checkpoint,),
        backends=("onnxruntime",), precisions=("fp32",), threads=1, peers=EVERY,
    )  # fmt: skip
    records = {record.what: record for record in bench([small_bundle], settings, tmp_path / "out")}
    latency, whole = records[names.LATENCY], records[names.END_TO_END]
    assert records[names.ACCURACY].options["reference"] == "PyTorch eager fp32"
    asked = {peer.name for peer in MODELS}
    assert asked == (set(latency.samples) & asked) | (set(latency.options["peers_left_out"]) & asked)
    assert EAGER.name in latency.samples and "--quick" in latency.options["peers_left_out"]["PyTorch compiled"]
    assert all(difference < 1e-5 for difference in latency.options["peers_difference"].values())
    assert "onnxruntime fp32: times as fast as PyTorch eager, low" in latency.summary
    script = f"{OPENCV.name}, {EAGER.name}"
    assert whole.summary[f"onnxruntime fp32: slices decided as by {script}"] == 1.0
    assert whole.summary[f"onnxruntime fp32: studies flagged as by {script}"] == 1.0
    assert whole.options["counted"][script] == whole.options["counted"]["onnxruntime fp32"]


def test_without_weights_every_model_is_named_and_without_packages_the_line_that_installs_them(
    tiny_bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "path", [p for p in sys.path if "site-packages" not in p and "extra" not in p])
    monkeypatch.delitem(sys.modules, "skimage", raising=False)
    assert "pip install -e . --group peer-scikit-image" in (SCIKIT_IMAGE.why_not() or "")
    peers = Baselines(tiny_bundle, None, Settings(peers=EVERY), silent).open()
    assert peers.left_out[EAGER.name] == WITHOUT_WEIGHTS and not peers.opened
    assert SCIKIT_IMAGE.name in peers.left_out


def test_a_model_that_is_not_the_bundles_is_not_timed(small_bundle: Bundle, tmp_path: Path) -> None:
    other = tmp_path / "other.safetensors"
    save_checkpoint(untrained_model("test_vit", seed=1), other, training="untrained")
    with pytest.raises(VerdictError, match="not the weights"):
        Baselines(small_bundle, other, Settings(), silent).open()
    named = replace(small_bundle, manifest=replace(small_bundle.manifest, weights_sha256=digest(other)))
    with pytest.raises(VerdictError, match="from the golden logits"):
        Baselines(named, other, Settings(), silent).open()


@pytest.mark.parametrize("output", OUTPUT_NAMES)
def test_a_peer_with_a_logit_that_is_not_finite_is_left_out(tiny_bundle: Bundle, output: str) -> None:
    peers = Baselines(tiny_bundle, None, Settings(peers=EVERY), silent)
    golden = tiny_bundle.golden()

    def infer(pixels: object) -> dict[str, np.ndarray]:
        return {name: values * (np.nan if name == output else 1) for name, values in golden.logits.items()}

    peers._keep_if_equal("broken", infer)  # type: ignore[arg-type]
    assert not peers.opened and not peers.differences
    assert peers.left_out["broken"].startswith("nan from the golden logits")


def digest(path: Path) -> str:
    from dtvit_edge.spec import digest_file

    return digest_file(path)


def test_the_trtexec_lines_are_the_graphs_with_our_profiles_and_hide_the_folder(small_bundle: Bundle) -> None:
    alone, most, fp16, _ = (line.split() for line in trtexec.lines(small_bundle, 16))
    assert alone[:2] == ["trtexec", "--onnx=small.dtvit/model.fp32.onnx"]
    slice_ = "1x224x224"
    for words, batch in ((alone, 1), (most, 16)):
        assert f"--minShapes=pixels:1x{slice_}" in words and f"--shapes=pixels:{batch}x{slice_}" in words
        assert f"--optShapes=pixels:{batch}x{slice_}" in words and f"--maxShapes=pixels:{batch}x{slice_}" in words
        assert "--noTF32" in words and "--stronglyTyped" not in words
    assert "--stronglyTyped" in fp16
    (words,) = {line for line in trtexec.lines(small_bundle, 1) if "fp32" in line}
    assert "pixels:1x1x224x224" in words


@pytest.mark.parametrize(("release", "asked"), [(10, False), (11, True)])
def test_from_tensorrt_11_on_the_copies_are_asked_for(
    release: int, asked: bool, tiny_bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tool = tmp_path / "trtexec"
    flag = "--includeDataTransfers  Time the copies as well" if release == 11 else "--noDataTransfers"
    times = '[{"latencyMs": 1.5}]'
    tool.write_text(f"#!/bin/sh\ncase $1 in --help) echo '{flag}'; exit 0;; esac\necho \"$@\" > {tmp_path}/asked\n"
                    f"for a; do case $a in --exportTimes=*) echo '{times}' > \"${{a#*=}}\";; esac; done\n")  # fmt: skip
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    assert trtexec.measure(tiny_bundle, "fp32", 8, batch=8) == [1.5]
    words = (tmp_path / "asked").read_text().split()
    assert ("--includeDataTransfers" in words) is asked and "--noTF32" in words
    assert ("--includeDataTransfers" in trtexec.lines(tiny_bundle, 8)[0]) is asked


@pytest.mark.parametrize("status", [0, 1])
def test_trtexecs_own_times_are_read(
    status: int, tiny_bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tool = tmp_path / "trtexec"
    times = '[{"latencyMs": 1.5, "computeMs": 1.2}, {"latencyMs": 1.7, "computeMs": 1.2}]'
    tool.write_text(f"#!/bin/sh\nfor a; do case $a in --exportTimes=*) echo '{times}' > \"${{a#*=}}\";; esac; done\n"
                    f"echo 'last words'; exit {status}\n")  # fmt: skip
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    assert trtexec.why_not() is None
    if status:
        with pytest.raises(VerdictError, match="ended with 1: last words"):
            trtexec.measure(tiny_bundle, "fp32", 8)
    else:
        assert trtexec.measure(tiny_bundle, "fp32", 8) == [1.5, 1.7]
        (tmp_path / "other.json").write_text('[{"ms": 1}]')
        with pytest.raises(VerdictError, match="no latencyMs"):
            trtexec.read_times(tmp_path / "other.json")


def test_a_peer_is_asked_for_by_name() -> None:
    assert chosen_peers(("PyTorch eager",), every=False) == ("PyTorch eager",)
    assert chosen_peers((), every=False) == ()
    with pytest.raises(ConfigError, match="no peer called 'abacus'; there are PyTorch eager; PyTorch compiled"):
        chosen_peers(("abacus",), every=False)


def test_quick_leaves_out_what_compiles_for_minutes() -> None:
    assert [peer.name for peer in MODELS if peer.slow] == ["PyTorch compiled"] and QUICK.rounds == 1


def test_what_installs_a_peer_is_a_group_of_the_project() -> None:
    groups = set(re.findall(r"^([\w-]+) = \[", (ROOT / "pyproject.toml").read_text(encoding="utf-8"), re.MULTILINE))
    peers = (*MODELS, *PREPROCESSING, *QUANTISERS)
    assert {peer.group for peer in peers} - groups == {""} == {peer.group for peer in peers if peer is OPENCV}
