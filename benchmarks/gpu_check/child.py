"""One stage in this process: its records are appended as it makes them, its exit status says how it ended.

    python -m benchmarks.gpu_check.child SETTINGS.json STAGE

The status is that of the error (`dtvit_edge.errors`), 75 where there is nothing to do here, 6 for an error of this
program.
"""

from __future__ import annotations

import faulthandler
import logging
import sys
import traceback
from dataclasses import replace
from importlib import import_module
from pathlib import Path

from benchmarks.gpu_check.settings import Settings
from benchmarks.gpu_check.stages import NOT_HERE_STATUS, NotHere, stage_of
from dtvit_edge.errors import DtvitError
from evaluation.records import append

_BUG_STATUS = 6


def main(settings_file: str, name: str) -> int:
    """Run the stage and say on stderr why it did not pass."""
    faulthandler.enable()  # a crash in a library leaves the Python lines that led there in the log
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s %(message)s")
    logging.getLogger("pydicom").setLevel(logging.CRITICAL)  # its messages quote names, ids and dates
    settings = Settings.read(Path(settings_file))
    stage = stage_of(settings, name)
    try:
        function = getattr(import_module(f"benchmarks.gpu_check.{stage.module}"), stage.function)
        for record in function(settings, *((stage.precision,) if stage.precision else ())):
            told = {"stage": name, "command": settings.command_of(name)}
            append(settings.records, replace(record, options=record.options | told))
            print(
                record.what, *(f"{key}: {value:.6g}" for key, value in record.summary.items()), sep="\n  ", flush=True
            )
    except NotHere as reason:
        print(reason, file=sys.stderr)
        return NOT_HERE_STATUS
    except DtvitError as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return error.exit_status
    except Exception:
        traceback.print_exc()
        return _BUG_STATUS
    return 0


if __name__ == "__main__":
    raise SystemExit(main(*sys.argv[1:]))
