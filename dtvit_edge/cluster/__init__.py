"""More than one machine: shards and their merge, runs on Ray, and repositories for Triton."""
