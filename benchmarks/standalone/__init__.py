"""Single questions, each with a command: `python -m benchmarks.standalone.NAME`."""
