"""`python -m benchmarks.gpu_check`: everything that needs a GPU, stage by stage, each in a process of its own.

A stage appends its records as it makes them; how it ended is a record too, whatever became of its process. So a stage
that is killed, runs out of time or breaks the device costs itself alone. Only PyTorch's times need torch, and they run
under another interpreter. `docs/first-gpu-run.md` is the order of the day.
"""
