"""TensorRT and TensorRT for RTX: what each release takes, and building an engine in a child process.

Nothing here imports either library, or asks the CUDA driver, before a function that needs it is called.
"""
