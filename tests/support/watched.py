"""A command under watch: to whom it spoke, where it wrote, and who may read that.

strace sees every process and library, and needs no root for one's own children. Where it is absent an audit hook of
Python takes its place, which does not see what a C library does by itself; what appears in the home folder is seen in
both cases.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.support.data import ROOT

STRACE = shutil.which("strace")
_CALLS = "connect,bind,sendto,sendmsg,sendmmsg,open,openat,openat2,creat,mkdir,mkdirat"
_ADDRESS = re.compile(r'sa_family=AF_INET6?,.*?(?:inet_addr\(|inet_pton\(AF_INET6, )"([^"]+)"')
_WRITTEN = re.compile(r"O_(?:WRONLY|RDWR|CREAT).* = \d+<(/[^>]*)>$")
_FOLDER = re.compile(r'mkdir(?:at)?\((?:AT_FDCWD<[^>]*>, )?"([^"]*)", \d+\) = 0$')
# Loaded by the interpreter at its start, from PYTHONPATH.
_HOOK = """
import os, sys
def hook(event, arguments):
    if event in ("socket.getaddrinfo", "socket.gethostbyname", "socket.connect", "socket.sendto"):
        # The file itself is opened below Python, or the hook would see that as well.
        said = os.open(os.environ["WATCHED"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        os.write(said, (repr(arguments[1:] if event[7:] in ("connect", "sendto") else arguments[0]) + "\\n").encode())
        os.close(said)
sys.addaudithook(hook)
"""


@dataclass(frozen=True)
class Watched:
    """What a command did.

    Attributes:
        addresses: to which it spoke, or whose names it looked up, this machine's own left out.
        written: files and folders that it opened for writing or made, outside the working folder and the temporary one.
        open_to_others: what lies in the working folder with more than the mode of 0640 for a file and 0750 for a
            folder, though the umask allowed all; by path.
    """

    status: int
    output: str
    addresses: set[str]
    written: set[str]
    open_to_others: dict[str, str]


def watch(arguments: list[str], folder: Path, *, program: tuple[str, ...]) -> Watched:
    """Run Python in `folder/work`, with an empty home folder and a temporary folder of its own beside that."""
    work, home, temporary, watcher = (folder / name for name in ("work", "home", "tmp", "watcher"))
    for path in (work, home, temporary, watcher):
        path.mkdir(exist_ok=True)
    said = watcher / "said.txt"
    said.unlink(missing_ok=True)
    kept = {name: os.environ[name] for name in ("PATH", "LD_LIBRARY_PATH", "LANG") if name in os.environ}
    (watcher / "sitecustomize.py").write_text(_HOOK)
    hooked = [] if STRACE else [str(watcher)]
    environment = kept | {
        "HOME": str(home),
        "TMPDIR": str(temporary),
        "WATCHED": str(said),
        "OMP_NUM_THREADS": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONPATH": os.pathsep.join([*hooked, str(ROOT)]),
    }
    traced = [STRACE, "-f", "-qq", "-y", "--seccomp-bpf", "-e", f"trace={_CALLS}", "-o", str(said)] if STRACE else []
    done = subprocess.run([*traced, sys.executable, *program, *arguments], cwd=work, env=environment,
                          capture_output=True, text=True, check=False, umask=0)  # fmt: skip
    lines = said.read_text(errors="replace").splitlines() if said.exists() else []
    addresses = {a for line in lines for a in _ADDRESS.findall(line)} if STRACE else set(lines)
    written = {path for line in lines for path in _paths(line, work)} if STRACE else set()
    own = (str(work), str(temporary), "/dev/", "/proc/", "/memfd:")
    return Watched(
        done.returncode,
        done.stdout + done.stderr,
        {a for a in addresses if not (a.startswith("127.") or a == "::1" or "127.0.0.1" in a)},
        {path for path in written if not path.startswith(own)} | {str(path) for path in home.rglob("*")},
        {str(path.relative_to(work)): mode for path in work.rglob("*") if (mode := _loose(path))},
    )


def _loose(path: Path) -> str:
    """The mode of what others may read or write, or a group may write; else empty."""
    mode = path.stat().st_mode & 0o777
    return f"{mode:04o}" if mode & ~(0o750 if path.is_dir() else 0o640) else ""


def _paths(line: str, work: Path) -> Iterator[str]:
    if found := _WRITTEN.search(line):
        yield found[1]
    elif found := _FOLDER.search(line):
        yield str(work / found[1])
