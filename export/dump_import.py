"""`--dump-import`: what was concluded about a checkpoint as an import.toml, to be read and corrected by its owner."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from dtvit_edge.errors import ConfigError
from dtvit_edge.files import write_atomically
from export.findings import ASSUMED, Findings
from export.import_file import SCHEMA
from export.importing import ImportOptions, import_model

# Tables in the order in which they are written.
TABLES = ("", "weights", "encoder", "heads", "heads.ich", "heads.location", "heads.classes", "preprocess")


def dump_import(weights: Path, options: ImportOptions, path: Path, *, overwrite: bool = False) -> None:
    """Write an import.toml.

    Raises:
        ConfigError: the file exists, or what was said of the weights is wrong.
        CheckpointError: weights that are not recognised.
    """
    if path.exists() and not overwrite:
        raise ConfigError(f"{path} exists already; give another name or --overwrite")
    imported = import_model(weights, options)
    write_atomically(path, as_toml(weights.name, imported.training, options.training is not None, imported.findings))


def as_toml(weights: str, training: str, said: bool, findings: Findings) -> str:
    """The text of an import.toml; what was assumed is marked, what is asked for is a comment to fill in."""
    values: dict[str, dict[str, tuple[Any, str]]] = {table: {} for table in TABLES}
    for name, (value, source) in findings.entries.items():
        if name == "encoder":
            name = "encoder.name"
        elif name == "names":
            name = "encoder.library"
        table, _, key = name.rpartition(".")
        if table in values and key in SCHEMA.get(table, {}):
            values[table][key] = (value, source)
    lines = [f"# What export concluded about {weights}. Correct what is wrong; see docs/own-weights.md."]
    lines.append(f'{"" if said else "# "}training = "{training}"{"" if said else "  # say how it was trained"}')
    library, _ = values["encoder"].get("library", ("", ""))
    if str(values["encoder"].get("name", ("", ""))[0]).startswith(f"{library}/"):
        del values["encoder"]["name"]  # a description: the library has no such name
    for table in TABLES:
        asked = {n.rpartition(".")[2]: q for n, q in findings.questions.items() if n.rpartition(".")[0] == table}
        if not values[table] and not asked:
            continue
        if table:
            lines.append(f"\n[{table}]")
        for key, question in asked.items():
            lines.append(f"# {key} = ...  # asked: {question}")
        for key, (value, source) in values[table].items():
            if key in asked or (key == "layers" and findings.questions):
                continue
            mark = "  # assumed" if source == ASSUMED else ""
            lines.append(f"{key} = {_toml(key, value)}{mark}")
    return "\n".join(lines) + "\n"


def _toml(key: str, value: Any) -> str:
    """A value of JSON types as TOML; windows become lists of three, no resize becomes false."""
    if key == "windows":
        value = [[window["center_hu"], window["width_hu"], window["kind"]] for window in value]
    return "false" if value is None else json.dumps(value)
