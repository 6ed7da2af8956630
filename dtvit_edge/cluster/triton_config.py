"""`config.pbtxt` of the models in a Triton repository, as protocol buffers' text format has it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from dtvit_edge.spec import INPUT_NAME, OUTPUT_SIZES, PreprocessSpec

MARK = "# written by `dtvit-edge triton`; research use only, not a medical device"
# So long a request waits for others that could share its batch.
DELAY_US = 1000


@dataclass(frozen=True)
class ModelConfig:
    """One model of a repository.

    Attributes:
        name: as clients ask for it.
        runs: `backend` or `platform`, and which.
        preferred: batch sizes that suit it, up to `max_batch`.
        kind: `KIND_GPU` or `KIND_CPU`; instances: of each GPU, or on the CPU.
        parameters: by name, as texts.
    """

    name: str
    runs: tuple[str, str]
    max_batch: int
    preferred: Sequence[int]
    kind: str
    instances: int
    parameters: Mapping[str, str]

    def text(self, spec: PreprocessSpec) -> str:
        """The file's text."""
        key, value = self.runs
        dims = f"{spec.channels}, {spec.crop}, {spec.crop}"
        outputs = ",\n".join(
            f"  {{ name: {_quoted(name)}, data_type: TYPE_FP32, dims: [ {size} ] }}"
            for name, size in OUTPUT_SIZES.items()
        )
        parameters = "\n".join(
            f"parameters {{ key: {_quoted(name)} value {{ string_value: {_quoted(text)} }} }}"
            for name, text in self.parameters.items()
        )
        sizes = ", ".join(str(size) for size in self.preferred)
        return f"""{MARK}
name: {_quoted(self.name)}
{key}: {_quoted(value)}
max_batch_size: {self.max_batch}
input [
  {{ name: {_quoted(INPUT_NAME)}, data_type: TYPE_UINT8, dims: [ {dims} ] }}
]
output [
{outputs}
]
dynamic_batching {{ preferred_batch_size: [ {sizes} ] max_queue_delay_microseconds: {DELAY_US} }}
instance_group [ {{ kind: {self.kind}, count: {self.instances} }} ]
{parameters}
"""


def _quoted(text: str) -> str:
    """A string of the text format: bytes beyond ASCII stay UTF-8, which it takes."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return '"' + "".join(f"\\{ord(c):03o}" if ord(c) < 32 or ord(c) == 127 else c for c in escaped) + '"'
