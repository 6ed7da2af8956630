"""Faults of files: dropped, doubled, emptied, cut, replaced, or moved to where they cannot be seen."""

from __future__ import annotations

import copy
import io
import os
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

from benchmarks.measure.faults.studies import Delivery, File, new_uid, retag_instance
from benchmarks.measure.faults.targets import Kind, Rng, numbers, some, targets


def drop_slices(d: Delivery, rng: Rng) -> str:
    """Slices are missing, wherever they lie."""
    files, which = targets(d, rng, whole=False)
    _drop(d, files)
    return which


def drop_run(d: Delivery, rng: Rng) -> str:
    """A run of neighbours is missing, neither the first nor the last slice among them."""
    slices = d.slices()
    if len(slices) < 4:
        return "nothing"
    length = int(rng.integers(1, min(9, len(slices) - 2)))
    start = int(rng.integers(1, len(slices) - length))
    bleed = [i for i, f in enumerate(slices) if f.index in d.scan.bleed]
    if bleed and rng.random() < 0.7:  # over the blood
        start = int(np.clip(min(bleed) - int(rng.integers(0, 2)), 1, len(slices) - length - 1))
    gone = slices[start : start + length]
    _drop(d, gone)
    return f"slices {numbers(gone)}"


def drop_end(d: Delivery, rng: Rng) -> str:
    """The scan ends too early, at the feet or at the vertex."""
    slices = d.slices()
    count = min(int(rng.integers(1, 17)), len(slices) - 1)
    gone = slices[:count] if rng.random() < 0.5 else slices[len(slices) - count :]
    _drop(d, gone)
    return f"slices {numbers(gone)}"


def drop_alternate(d: Delivery, rng: Rng) -> str:
    """Every second or third slice is missing: what is left lies evenly."""
    step = int(rng.integers(2, 4))
    start = int(rng.integers(0, step))
    gone = [f for i, f in enumerate(d.slices()) if i % step == start]
    _drop(d, gone)
    return f"every {step} from {start}"


def duplicate(d: Delivery, rng: Rng) -> str:
    """Slices lie there twice, byte for byte."""
    files, which = targets(d, rng)
    for file in files:
        d.files.append(File(_beside(file, rng, "copy"), d.encode(file), file.index))
    return which


def duplicate_new_uid(d: Delivery, rng: Rng) -> str:
    """Slices lie there again under instance UIDs of their own."""
    files, which = targets(d, rng)
    times = int(rng.integers(1, 5))
    for file in files:
        for time in range(times):
            again = File(_beside(file, rng, f"again{time}"), copy.deepcopy(file.content), file.index, owned=True)
            retag_instance(d.edit(again), new_uid("again", file.index, time))
            d.files.append(again)
    return f"{which}, {times} times"


def truncated_twin(d: Delivery, rng: Rng) -> str:
    """A half-received copy sorts before or after the complete one."""
    files, which = targets(d, rng)
    first = rng.random() < 0.7
    for file in files:
        data = d.encode(file)
        name = f"{os.path.dirname(file.name)}/{'0' if first else 'z'}-{os.path.basename(file.name)}"
        d.files.append(File(name, data[: int(len(data) * rng.uniform(0.1, 0.95))], file.index, altered=True))
    return f"{which}, {'before' if first else 'after'}"


def zero_twin(d: Delivery, rng: Rng) -> str:
    """A copy whose pixels are zero sorts before or after the good one, under the same UIDs."""
    files, which = targets(d, rng)
    first = rng.random() < 0.7
    for file in files:
        name = f"{os.path.dirname(file.name)}/{'0' if first else 'z'}-{os.path.basename(file.name)}"
        twin = File(name, copy.deepcopy(file.content), file.index, owned=True, altered=True)
        ds = d.edit(twin)
        ds.PixelData = bytes(len(ds.PixelData))
        d.files.append(twin)
    return f"{which}, {'before' if first else 'after'}"


def zero_file(d: Delivery, rng: Rng) -> str:
    """Files of the right length hold zeros alone: a copy that was interrupted."""
    return _replace(d, rng, lambda data: bytes(len(data)))


def zero_tail(d: Delivery, rng: Rng) -> str:
    """Files of the right length end in zeros, from somewhere in the pixels on."""
    share = rng.uniform(0.02, 0.9)
    return f"{_replace(d, rng, lambda data: _zero_after(data, share))}, from {share:.0%} on"


def truncate_header(d: Delivery, rng: Rng) -> str:
    """Files end within the header."""
    return _replace(d, rng, lambda data: data[: int(rng.integers(0, 1200))])


def truncate_pixels(d: Delivery, rng: Rng) -> str:
    """Files end within the pixel data, a few bytes or most of it too early."""
    return _replace(d, rng, lambda data: data[: len(data) - int(rng.choice([1, 2, 100, 20_000]))])


def half_file(d: Delivery, rng: Rng) -> str:
    """Files end in the middle."""
    return _replace(d, rng, lambda data: data[: len(data) // 2])


def damaged_header(d: Delivery, rng: Rng) -> str:
    """Forty bytes of the header are noise."""

    def damage(data: bytes) -> bytes:
        start = int(rng.integers(132, 1200))
        return data[:start] + rng.bytes(40) + data[start + 40 :]

    return _replace(d, rng, damage)


def text(d: Delivery, rng: Rng) -> str:
    """Files are replaced by text: a web page of an error, an empty file, a note."""
    words = (b"<html><body>504 Gateway Time-out</body></html>\n", b"", b"see PACS\n", b"version https://git-lfs\n" * 9)
    return _replace(d, rng, lambda data: words[int(rng.integers(len(words)))])


def other_names(d: Delivery, rng: Rng) -> str:
    """Files have other names, in several folders."""
    for number, file in enumerate(some(d.files, rng, len(d.files))):
        file.name = f"{os.path.dirname(file.name)}/{int(rng.integers(0, 4))}/{rng.integers(10**6)}.{number}"
    return "all"


def locked_folder(d: Delivery, rng: Rng) -> str:
    """Slices lie in a folder that may not be listed, or listed and not entered."""
    files, which = targets(d, rng)
    folder = f"{os.path.dirname(files[0].name)}/locked"
    for file in files:
        file.name = f"{folder}/{os.path.basename(file.name)}"
    d.locked.append(folder)
    return which


def locked_files(d: Delivery, rng: Rng) -> str:
    """Slices may not be read."""
    files, which = targets(d, rng)
    d.locked.extend(file.name for file in files)
    return which


def archived(d: Delivery, rng: Rng) -> str:
    """Slices lie in an archive beside the others, or in one at the root."""
    files, which = targets(d, rng)
    kind = str(rng.choice(["zip", "tar", "tar.gz"]))
    folder = os.path.dirname(files[0].name)
    data = archive([(os.path.basename(f.name), d.encode(f)) for f in files], kind)
    _remove(d, files)
    name = str(rng.choice([f"{folder}/more.{kind}", f"more.{kind}", f"{folder}/IM9999"]))
    d.files.append(File(name, data))
    return f"{which} into {name}"


def linked_outside(d: Delivery, rng: Rng) -> str:
    """Slices lie in another folder, to which a link leads."""
    files, which = targets(d, rng)
    folder = os.path.dirname(files[0].name)
    _remove(d, files)
    d.outside.extend(files)
    for file in files:
        file.name = f"far/{os.path.basename(file.name)}"
    if rng.random() < 0.5:
        d.links.append((f"{folder}/more", "far"))
        return f"{which}, the folder"
    d.links.extend((f"{folder}/{os.path.basename(f.name)}", f.name) for f in files)
    return f"{which}, each"


def dangling_link(d: Delivery, rng: Rng) -> str:
    """Slices are links whose targets are gone."""
    files, which = targets(d, rng)
    _remove(d, files)
    d.links.extend((f.name, f"gone/{os.path.basename(f.name)}") for f in files)
    return which


def replaced_meanwhile(d: Delivery, rng: Rng) -> str:
    """Between planning and reading, slices are replaced by others' bytes, with times and sizes kept."""
    files, which = targets(d, rng)
    rest = [f for f in d.slices() if f.index not in d.scan.bleed] or d.slices()
    swaps = [(f, rest[int(rng.integers(len(rest)))]) for f in files]
    keep = bool(rng.random() < 0.7)

    def swap(folder: Path) -> None:
        for file, other in swaps:
            path = folder / file.name
            if not path.exists():  # another fault took it away
                continue
            state = path.stat()
            fresh = path.with_name(path.name + "~")
            fresh.write_bytes(d.encode(other))
            if keep:
                os.utime(fresh, ns=(state.st_atime_ns, state.st_mtime_ns))
            os.replace(fresh, path)

    d.meanwhile.append(swap)
    for file in files:
        file.altered = True
    return f"{which}, times {'kept' if keep else 'new'}"


def removed_meanwhile(d: Delivery, rng: Rng) -> str:
    """Between planning and reading, slices vanish or are cut."""
    files, which = targets(d, rng)
    cut = bool(rng.random() < 0.5)

    def remove(folder: Path) -> None:
        for file in files:
            if (folder / file.name).exists():
                os.truncate(folder / file.name, 3000) if cut else (folder / file.name).unlink()

    d.meanwhile.append(remove)
    return f"{which}, {'cut' if cut else 'gone'}"


def archive(members: list[tuple[str, bytes]], kind: str = "zip") -> bytes:
    """An archive of named files: `zip`, `tar` or `tar.gz`."""
    buffer = io.BytesIO()
    if kind == "zip":
        with zipfile.ZipFile(buffer, "w") as file:
            for name, data in members:
                file.writestr(name, data)
    else:
        with tarfile.open(fileobj=buffer, mode="w:gz" if kind == "tar.gz" else "w") as file:
            for name, data in members:
                entry = tarfile.TarInfo(name)
                entry.size = len(data)
                file.addfile(entry, io.BytesIO(data))
    return buffer.getvalue()


def _drop(d: Delivery, files: list[File]) -> None:
    """They are nowhere any more, no copy of them either."""
    d.gone.update(f.index for f in files if f.index is not None)
    d.files[:] = [f for f in d.files if f.index is None or f.index not in d.gone]


def _remove(d: Delivery, files: list[File]) -> None:
    d.files[:] = [f for f in d.files if f not in files]


def _replace(d: Delivery, rng: Rng, change: Callable[[bytes], bytes]) -> str:
    files, which = targets(d, rng)
    for file in files:
        data = d.encode(file)
        file.content, file.altered = change(data), True
    return which


def _beside(file: File, rng: Rng, word: str) -> str:
    folder, name = os.path.split(file.name)
    return str(rng.choice([f"{folder}/{name}-{word}", f"{folder}/{word}/{name}", f"{folder}/A{word}-{name}"]))


def _zero_after(data: bytes, share: float) -> bytes:
    pixels = data.rindex(b"\xe0\x7f\x10\x00") + 12  # explicit VR: tag, VR, two reserved bytes, length
    start = pixels + int((len(data) - pixels) * share)
    return data[:start] + bytes(len(data) - start)


KINDS: dict[str, Kind] = {
    kind.__name__: kind
    for kind in (
        drop_slices, drop_run, drop_end, drop_alternate, duplicate, duplicate_new_uid, truncated_twin, zero_twin,
        zero_file, zero_tail, truncate_header, truncate_pixels, half_file, damaged_header, text, other_names,
        locked_folder, locked_files, archived, linked_outside, dangling_link, replaced_meanwhile, removed_meanwhile,
    )
}  # fmt: skip
