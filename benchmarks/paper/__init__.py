"""The paper's experiments (Fan, Lu, Fan, arXiv 2405.06814) as commands over one's own labelled data."""
