"""One GPU through pycuda: its context and owner, its memory, CUDA graphs.

Nothing here imports pycuda, or asks the driver for a context, before a device is opened.
"""
