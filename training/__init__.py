"""The paper's recipe (Fan, Lu, Fan, arXiv 2405.06814) over labelled slices: `dtvit-edge train` and `evaluate`."""
