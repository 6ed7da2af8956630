"""Results out. Writers read result dataclasses and nothing else."""
