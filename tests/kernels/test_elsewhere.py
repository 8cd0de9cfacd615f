"""The interpreter takes what the compiler does not, and knows no end of shared memory; so compile for other devices."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

KERNELS = {
    *("forward", "backward_features", "backward_maps", "add_up"),
    *("lay_band", "convolve", "backward_weight", "add_taps"),
    *("batch_statistics", "finish_statistics", "normalize", "gradient_sums", "finish_sums", "gradient_features"),
    *("attention_sums", "count_below", "drop_by_margin"),
    *("normalize_two", "gradient_sums_of_two", "gradient_features_of_two"),
}
WIDE = {"lay_maps", "gather_rows", "spread_rows"}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "most"),
    [
        # Layers of the paper's encoder that take the most, in KiB: what `skelcontrast._cuda.ROOMY` says, and the least
        # that a device has which knows bfloat16.
        (("80", "float32", "tf32", "64", "64", "25"), 160),
        (("86", "bfloat16", "tf32", "16", "16", "25"), 99),
        (("80", "bfloat16", "tf32", "64", "256", "25"), 160),
        (("80", "bfloat16", "tf32", "16", "80", "25"), 160),  # channels out in two steps
        # As for bfloat16 on a device without products of it; "auto" takes no kernel of the encoder there.
        (("75", "float16", "wide", "16", "16", "4"), None),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, tuple) else None,
)
def test_kernels_compile_within_shared_memory(arguments: tuple[str, ...], most: int | None, tmp_path: Path) -> None:
    hidden = {"TRITON_INTERPRET": "0", "TRITON_CACHE_DIR": str(tmp_path / "cache"), "TRITON_DEFAULT_FP_FUSION": "1"}
    where = tmp_path / "shared.json"
    command = [sys.executable, "-m", "tests.kernels.elsewhere", str(where), *arguments]
    run = subprocess.run(command, check=False, capture_output=True, text=True, env={**os.environ, **hidden})
    assert run.returncode == 0, run.stderr
    shared = json.loads(where.read_text(encoding="utf-8"))
    from skelcontrast.kernels import graph_conv_wide  # with Triton alone

    is_wide = "256" in arguments and graph_conv_wide._SUMS_IN_FLOAT32
    assert shared.keys() == (KERNELS | WIDE if is_wide else KERNELS)
    assert most is None or max(shared.values()) <= 1024 * most, shared
