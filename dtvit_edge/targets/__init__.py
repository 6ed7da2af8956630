"""What a target will refuse, decompose or not fuse, from a bundle's manifest alone: no GPU, no onnx, no TensorRT."""
