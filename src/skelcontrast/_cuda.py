"""What is known of CUDA devices."""

ROOMY = {(8, 0), (9, 0), (10, 0), (10, 3)}
"""Compute capabilities with the shared memory per multiprocessor that some kernels take, above 99 KiB up to 160."""
