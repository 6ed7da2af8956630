"""`python -m export`: the `export` command by itself."""

from export.command import export

if __name__ == "__main__":
    export(prog_name="python -m export")
