"""Checkpoints made by their own libraries: exported as what the user's own module computes, or refused in words.

None may be accepted and wrong: the rebuilt module is judged against the user's own, both in float64. Rows that need a
library which is no dependency, or large networks, are marked `real`.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from dtvit_edge.errors import DtvitError
from export.importing import ImportOptions, import_model
from tests.support.checkpoint_cases import CASES, TIMM, timm_mlp
from tests.support.foreign_models import SIDE, answers, seeded

# Both sides compute in float64 from the same float32 weights.
TOLERANCE = 1e-8


def test_the_table_is_of_45_checkpoints_or_more() -> None:
    assert len(CASES) >= 45


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=[pytest.mark.real] if case.needs or case.large else []) for name, case in CASES.items()],
)
def test_checkpoint_is_what_its_module_computes_or_is_refused_in_words(tmp_path: Path, name: str) -> None:
    case = CASES[name]
    if case.needs:
        pytest.importorskip(case.needs)
    module = case.make().eval() if name == "bfloat16" else seeded(case.make())
    path = tmp_path / f"weights{case.ending}"
    torch.save(case.wrap(dict(module.state_dict())), path)
    if case.toml:
        (tmp_path / "import.toml").write_text(case.toml)
    options = ImportOptions(training="synthetic", **case.options)
    if case.refused:
        with pytest.raises(DtvitError, match=case.refused):
            import_model(path, options)
        return
    imported = import_model(path, options)
    assert imported.spec.crop == case.side and imported.spec.encoder_channels == case.channels
    x = torch.randn(2, case.channels, case.side, case.side, generator=torch.Generator().manual_seed(1))
    if name == "bfloat16":
        module.load_state_dict({k: v.bfloat16().float() for k, v in module.state_dict().items()})
    ich, location = answers(module, x)
    if "classes" in case.toml:  # the user's order of labels is not this project's
        ich, location = _reordered(module, x)
    with torch.no_grad():
        ours = imported.model.double()(x.double())
    assert torch.allclose(ours[0], ich, rtol=0, atol=TOLERANCE), float((ours[0] - ich).abs().max())
    assert (location is None) == ("location" in imported.untrained_heads)
    if location is not None:
        assert torch.allclose(ours[1], location, rtol=0, atol=TOLERANCE), float((ours[1] - location).abs().max())
    assert ich.std() > 1e-3


@pytest.mark.parametrize("name", ["average chosen", "timm CNN, largest of the features"], ids=["ViT", "CNN"])
def test_a_pooling_that_nobody_named_is_assumed(tmp_path: Path, name: str) -> None:
    """Averages and class tokens have no weights: what was taken is printed, so that it can be corrected."""
    case = CASES[name]
    torch.save(seeded(case.make()).state_dict(), tmp_path / "weights.pt")
    (tmp_path / "import.toml").write_text(case.toml.replace('pool = "max"\n', ""))
    said = import_model(tmp_path / "weights.pt", ImportOptions(training="synthetic")).findings.to_dict()
    assert said["assumed"]["encoder.pool"] == ("avg" if "CNN" in name else "token")


def _reordered(module: nn.Module, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Of a head with the classes deep, no_ich, subtentorial, lobar."""
    with torch.no_grad():
        four = module(x.double())
    location = four[:, [0, 3, 2]]
    return torch.cat([four[:, 1:2], location.logsumexp(1, keepdim=True)], 1), location


@pytest.mark.real
def test_what_lightnings_own_trainer_saved_is_read_as_it_is(tmp_path: Path) -> None:
    lightning = pytest.importorskip("lightning")

    class Lit(lightning.LightningModule):
        def __init__(self, rate: float = 1e-3) -> None:
            super().__init__()
            self.save_hyperparameters()
            self.net = timm_mlp(nn.GELU(), norm=nn.BatchNorm1d(12))

        def training_step(self, batch: list[torch.Tensor], index: int) -> torch.Tensor:
            ich, location = self.net(batch[0])
            return nn.functional.cross_entropy(ich, batch[1]) + nn.functional.cross_entropy(location, batch[1])

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.AdamW(self.parameters(), lr=self.hparams["rate"])

    torch.manual_seed(0)
    x, y = torch.randn(12, 3, SIDE, SIDE), torch.arange(12) % 2
    batches = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(x, y), batch_size=4)
    module = Lit()
    trainer = lightning.Trainer(
        max_epochs=2,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        default_root_dir=tmp_path,
    )
    trainer.fit(module, batches)
    trainer.save_checkpoint(tmp_path / "last.ckpt")
    (tmp_path / "import.toml").write_text(TIMM)
    imported = import_model(tmp_path / "last.ckpt", ImportOptions(training="synthetic", activation="gelu"))
    ich, location = answers(module.net.eval(), x)
    with torch.no_grad():
        ours = imported.model.double()(x.double())
    assert torch.allclose(ours[0], ich, rtol=0, atol=TOLERANCE) and ich.std() > 1e-3
    assert location is not None and torch.allclose(ours[1], location, rtol=0, atol=TOLERANCE)
