"""What is measured and how: accuracy first, then latency, throughput, memory, energy, in alternating rounds."""
