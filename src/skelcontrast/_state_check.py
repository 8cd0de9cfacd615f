"""Whether a saved state fits an object, told before anything is loaded."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from skelcontrast import _check

# What SGD, Adam and their kin keep in the shape of the parameter; other optimisers' states are checked by them alone.
PER_PARAMETER = ("momentum_buffer", "exp_avg", "exp_avg_sq", "max_exp_avg_sq", "square_avg")


def module_misfits(name: str, target: nn.Module, saved: Mapping[str, object]) -> list[str]:
    """Compare keys, shapes and dtypes; return one line per misfit."""
    expected: Mapping[str, object] = target.state_dict()
    problems = [f'{name}["{key}"] is missing' for key in expected if key not in saved]
    problems += [f'{name}["{key}"] is left over' for key in saved if key not in expected]
    for key, value in expected.items():
        given = saved.get(key)
        if not isinstance(value, Tensor) or not isinstance(given, Tensor):
            continue
        if value.shape != given.shape:
            shapes = f"{_check.show(value.shape)}, got {_check.show(given.shape)}"
            problems.append(f'{name}["{key}"] must have shape {shapes}')
        elif value.dtype != given.dtype:
            problems.append(f'{name}["{key}"] must have dtype {value.dtype}, got {given.dtype}')
    return problems


def optimizer_misfits(name: str, target: torch.optim.Optimizer, saved: Mapping[str, Any]) -> list[str]:
    """Compare the groups and the shapes of the averages kept of each parameter; return one line per misfit."""
    groups, saved_groups = target.param_groups, saved["param_groups"]
    expected_sizes = [len(group["params"]) for group in groups]
    sizes = [len(group["params"]) for group in saved_groups]
    if sizes != expected_sizes:
        return [f'"{name}" must have parameter groups of sizes {expected_sizes}, got {sizes}']
    problems = []
    for group, saved_group in zip(groups, saved_groups, strict=True):
        for parameter, index in zip(group["params"], saved_group["params"], strict=True):
            for key, value in saved["state"].get(index, {}).items():
                if key in PER_PARAMETER and isinstance(value, Tensor) and value.shape != parameter.shape:
                    shapes = f"{_check.show(parameter.shape)}, got {_check.show(value.shape)}"
                    problems.append(f'{name}["state"][{index}]["{key}"] must have shape {shapes}')
    return problems
