from __future__ import annotations

from pathlib import Path

import torch
from click.testing import CliRunner

from export.checkpoint import load_checkpoint
from export.untrained import main, untrained_model


def test_the_same_seed_gives_the_same_model_and_leaves_the_global_generator_alone() -> None:
    before = torch.random.get_rng_state()
    one, two, other = untrained_model("test_vit"), untrained_model("test_vit"), untrained_model("test_vit", seed=1)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert not one.training
    weights = one.state_dict()
    assert all(torch.equal(value, weights[name]) for name, value in two.state_dict().items())
    assert not torch.equal(other.state_dict()["ich_head.0.weight"], weights["ich_head.0.weight"])


def test_the_command_writes_a_checkpoint_that_says_untrained(tmp_path: Path) -> None:
    done = CliRunner().invoke(main, ["test_vit", str(tmp_path / "w.safetensors")])
    assert done.exit_code == 0, done.output
    checkpoint = load_checkpoint(tmp_path / "w.safetensors")
    assert (checkpoint.training, checkpoint.model.encoder_name) == ("untrained", "test_vit")
    done = CliRunner().invoke(main, ["no_such_encoder", str(tmp_path / "x.safetensors")])
    assert done.exit_code == 1 and "no_such_encoder" in done.output and not (tmp_path / "x.safetensors").exists()
