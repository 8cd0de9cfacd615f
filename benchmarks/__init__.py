"""Speed and memory of the library's operations; run with ``make bench``."""
