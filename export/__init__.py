"""Weights of any origin become DTViT, and DTViT becomes ONNX files whose parity with PyTorch is proved.

    weights/      a file's tensors: opened without running anything, chosen, checked
    libraries/    encoders by the names of timm, torchvision and Hugging Face
    heads/        a user's heads: found, made, turned into the graph's two outputs
    import_file, importing, preprocessing, own_module, dump_import     what the owner says, and what was concluded
    expectations, expect_changes, expecting                            proof against the user's own outputs
    checkpoint, model, encoders                                        DTViT and this project's own checkpoints
    rewrites, onnx_graph, opset, half, golden, parity, bundle_export   the graph, its proof, the bundle

Runs on a workstation and never on the device: it needs torch, timm and onnx. `export.command` is the command line,
`export.bundle_export.export_bundle` the one function behind it.
"""

import dtvit_edge  # noqa: F401  (telemetry is off before a module of this room loads a library)
