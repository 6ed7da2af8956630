"""Single questions, each a command of its own: `python -m benchmarks.standalone.NAME`."""
