"""The PyTorch side of the model: DTViT, checkpoints, exact graph rewrites, ONNX and parity.

Runs on a workstation and never on the device: it needs torch, timm and onnx. `export.command` is the command
line, `export.bundle_export.export_bundle` the one function behind it.
"""
