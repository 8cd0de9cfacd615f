"""Batch norm with dropout, a residual and ReLU behind it, in one pass over the features where kernels can do that."""

from typing import NamedTuple, Protocol, TypeAlias, TypeGuard

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules import module as hooks

from skelcontrast._cuda import HAS_TRITON, capability, triton_cannot
from skelcontrast.nn._dropout import Dropout
from skelcontrast.nn._memory_format import each, is_channels_last
from skelcontrast.nn._norm_operators import batch_statistics, normalize_twin, normalize_two_twin
from skelcontrast.nn.graph_conv import GraphConv
from skelcontrast.nn.temporal_conv import TemporalConv, convolve_frames_and_sum

_HOOKS_OF_ALL = (
    hooks._global_forward_hooks,
    hooks._global_forward_pre_hooks,
    hooks._global_backward_hooks,
    hooks._global_backward_pre_hooks,
)
Kinds: TypeAlias = tuple[type[nn.Module], ...]
CONVOLUTIONS: Kinds = (nn.Conv2d, TemporalConv, GraphConv)
NORMS: Kinds = (nn.BatchNorm1d, nn.BatchNorm2d)
ACTIVATIONS: Kinds = (nn.ReLU,)
DROPOUTS: Kinds = (nn.Dropout, Dropout)
_KEEP_NO_OUTPUT = (nn.BatchNorm2d, nn.SyncBatchNorm, nn.Dropout, Dropout)  # so that it may be written over


class _Tracking(Protocol):
    """A batch norm that has weights and running statistics."""

    weight: Tensor
    bias: Tensor
    running_mean: Tensor
    running_var: Tensor
    num_batches_tracked: Tensor | None
    momentum: float
    eps: float


class Unnormalized(NamedTuple):
    """Features of which a batch norm knows the statistics, but which it has not normalised yet."""

    x: Tensor
    mean: Tensor
    inverse: Tensor
    weight: Tensor
    bias: Tensor
    left_out: Tensor | None


def convolved(
    conv: nn.Module,
    norm: nn.Module,
    x: Tensor,
    *,
    dropout: nn.Module | None = None,
    residual: Tensor | Unnormalized | None = None,
    relu: nn.Module | bool = True,
) -> Tensor:
    """Return ``relu(residual + dropout(norm(conv(x))))`` of features (N, C, T, V)."""
    x, sums, left_out = _convolve_and_sum(conv, norm, x)
    return normalized(norm, x, sums=sums, left_out=left_out, dropout=dropout, residual=residual, relu=relu)


def branched(conv: nn.Module, norm: nn.Module, x: Tensor, *, relu: nn.Module, every: int) -> tuple[Tensor, Tensor]:
    """Return ``relu(norm(conv(x)))`` of features (N, C, T, V), and each `every`-th frame of them, for a residual.

    Where kernels convolve over a graph, they add the residual's gradient to their own.
    """
    if not (_may_sum(conv, norm, x) and isinstance(conv, GraphConv)):
        return convolved(conv, norm, x, relu=relu), each(x, every)
    y, sums, kept = conv._forward_and_branch(x, every)
    return normalized(norm, _laid_like(x, y), sums=sums, relu=relu), kept


def convolved_to_add(conv: nn.Module, norm: nn.Module, x: Tensor) -> Tensor | Unnormalized:
    """Return ``norm(conv(x))`` as a residual, to be normalised where it is added if kernels can do that."""
    x, sums, left_out = _convolve_and_sum(conv, norm, x)
    if is_fused(norm, x):
        return _with_statistics(norm, x, sums, left_out)
    return normalized(norm, x, sums=sums, left_out=left_out, relu=False)


def settled(residual: Tensor | Unnormalized | None) -> Tensor | None:
    """Return a residual as features, normalised if it is not yet."""
    if not isinstance(residual, Unnormalized):
        return residual
    return _normalize(residual, 0.0, None, relu=False)


def _convolve_and_sum(conv: nn.Module, norm: nn.Module, x: Tensor) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """Return ``conv(x)``, parts of its statistics where a kernel writes them, and the bias that it lacks, if any.

    What a bias adds, a batch norm in training takes away again. So there it moves the running mean, and nothing else. A
    kernel that convolves sums up what it writes, so that it is not read again for its statistics.
    """
    sums = left_out = None
    if not _may_sum(conv, norm, x):
        return conv(x), None, None
    if isinstance(conv, GraphConv):
        out, sums = conv._forward_and_sum(x)
    elif isinstance(conv, TemporalConv):
        left_out = conv.bias
        out, sums = convolve_frames_and_sum(x, conv.weight, None, conv.stride[0], conv.implementation)
    else:
        left_out = conv.bias
        out = conv._conv_forward(x, conv.weight, None)
    return _laid_like(x, out), sums, left_out


def _laid_like(x: Tensor, out: Tensor) -> Tensor:
    """Lay out channels-last what was convolved from features that are; kernels normalise nothing else.

    Torch's convolutions never do without cuDNN. Nor do they, or ours, where sizes of 1 leave open how features lie.
    """
    return out.contiguous(memory_format=torch.channels_last) if is_channels_last(x) else out


def _may_sum(conv: nn.Module, norm: nn.Module, x: Tensor) -> TypeGuard[nn.Conv2d | GraphConv]:
    """Tell whether a convolution may leave out its bias, or sum up what it writes, for a norm in training behind it."""
    return _is_known(conv, CONVOLUTIONS) and norm.training and _is_on_gpu(x)


def normalized(
    norm: nn.Module,
    x: Tensor,
    *,
    sums: Tensor | None = None,
    left_out: Tensor | None = None,
    dropout: nn.Module | None = None,
    residual: Tensor | Unnormalized | None = None,
    relu: nn.Module | bool = True,
) -> Tensor:
    """Return ``relu(residual + dropout(norm(x)))`` of features (N, C, T, V), which may lack a bias that was left out.

    Modules of which a kernel knows what they do are not called where it takes their place, unless they have hooks. What
    has made the features may have summed them up for it, see `batch_statistics`.
    """
    p = dropout.p if isinstance(dropout, nn.Dropout) and dropout.training else 0.0
    known = dropout is None or _is_known(dropout, DROPOUTS)
    known = known and (isinstance(relu, bool) or _is_known(relu, ACTIVATIONS))
    if known and p < 1 and is_fused(norm, x, residual):
        return fused(norm, x, p, residual, relu=relu is not False, sums=sums, left_out=left_out)
    modules = [module for module in (norm, dropout, relu) if isinstance(module, nn.Module)]
    # Hooks may keep what they are shown, and modules of others what they return, for their gradient.
    in_place = all(type(module) in _KEEP_NO_OUTPUT and not has_listeners(module) for module in modules)
    out: Tensor = norm(x if left_out is None else x + left_out.to(x.dtype)[:, None, None])
    if dropout is not None:
        out = dropout(out)
    added = settled(residual)
    if added is not None:
        out = out.add_(added) if in_place else out + added
    if isinstance(relu, nn.Module):
        return relu(out)  # type: ignore[no-any-return]  # modules return anything
    return F.relu(out, inplace=in_place) if relu else out


def fused(
    norm: _Tracking,
    x: Tensor,
    p: float,
    residual: Tensor | Unnormalized | None,
    *,
    relu: bool,
    sums: Tensor | None = None,
    left_out: Tensor | None = None,
) -> Tensor:
    """Do what `normalized` does, with kernels, in training mode; features are channels-last.

    Dropout draws other numbers than torch's from the same seed.
    """
    return _normalize(_with_statistics(norm, x, sums, left_out), p, residual, relu=relu)


def _with_statistics(norm: _Tracking, x: Tensor, sums: Tensor | None, left_out: Tensor | None) -> Unnormalized:
    moved = norm.running_mean, norm.running_var, norm.num_batches_tracked
    statistics = batch_statistics(x, sums, *moved, left_out, norm.momentum, norm.eps)
    return Unnormalized(x, *statistics, norm.weight, norm.bias, left_out)


def _normalize(one: Unnormalized, p: float, residual: Tensor | Unnormalized | None, *, relu: bool) -> Tensor:
    seed = torch.randint(2**31, (1,), device=one.x.device) if p else one.mean  # which is not read then
    if isinstance(residual, Unnormalized):
        return normalize_two_twin(*one, *residual, seed, p, relu)
    *norm, left_out = one
    return normalize_twin(*norm, residual, left_out, seed, p, relu)


def is_fused(norm: nn.Module, x: Tensor, residual: Tensor | Unnormalized | None = None) -> TypeGuard[_Tracking]:
    """Tell whether kernels take the place of a batch norm of features (N, C, T, V), see `fused`."""
    return (
        _is_known(norm, NORMS)
        and _trains(norm)
        and _is_for_kernels(x, residual.x if isinstance(residual, Unnormalized) else residual)
    )


def is_left_to_kernels(module: nn.Module, kinds: Kinds) -> bool:
    """Tell whether kernels take the place of a module that is to be of these kinds, whatever the features."""
    return _is_known(module, kinds) and (_trains(module) or not isinstance(module, NORMS))


def _trains(norm: nn.Module) -> TypeGuard[_Tracking]:
    """Tell whether a batch norm normalises with the batch's own statistics and keeps a running mean of them."""
    if not isinstance(norm, (nn.BatchNorm1d, nn.BatchNorm2d)):
        return False
    return norm.training and norm.affine and norm.track_running_stats and norm.momentum is not None


def _is_known(module: nn.Module, kinds: Kinds) -> bool:
    """Tell whether a module is of one of these kinds and no sub-class, and nobody listens to it."""
    return type(module) in kinds and not has_listeners(module)


def has_listeners(module: nn.Module) -> bool:
    """Tell whether a module has hooks, of its own or, which torch.compile does not ask, of all modules."""
    own = module._forward_hooks or module._forward_pre_hooks or module._backward_hooks or module._backward_pre_hooks
    return bool(own) or (not torch.compiler.is_compiling() and any(_HOOKS_OF_ALL))


def is_plain(module: nn.Module | None, parts: int) -> TypeGuard[nn.Sequential]:
    """Tell whether a module is a sequence of so many parts that may be called without it."""
    return type(module) is nn.Sequential and len(module) == parts and not has_listeners(module)


def _is_for_kernels(x: Tensor, residual: Tensor | None) -> bool:
    """Tell whether kernels can take these features, in which there are two values for each channel at least."""
    if not has_kernels(x) or x.numel() <= x.shape[1]:
        return False
    if residual is None:
        return is_channels_last(x)
    alike = residual.shape == x.shape and residual.dtype == x.dtype
    return alike and is_channels_last(x) and is_channels_last(residual)


def has_kernels(x: Tensor) -> bool:
    """Tell whether there are kernels where a tensor is, and for its dtype."""
    return _is_on_gpu(x) and triton_cannot(x, x.dtype) is None


def _is_on_gpu(x: Tensor) -> bool:
    return x.is_cuda and HAS_TRITON and capability(x.device) >= (8, 0)
