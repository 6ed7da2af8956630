"""From study folders to results: `api` by study, `run` into an output folder, and what both are made of.

`prefetch` reads ahead, an executor (`executor` on the CPU, `gpu_executor`) prepares and infers, `pipeline` turns
headers into rows in order, `aggregate` makes series and studies of them, `csv_files` writes them down.
"""
