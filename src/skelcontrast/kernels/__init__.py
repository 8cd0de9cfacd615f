"""Triton kernels, twins of slow paths elsewhere. Nothing imports this room until a kernel runs."""
