"""The linear protocol without a learning rate: multinomial logistic regression, solved to convergence."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from skelcontrast import _check
from skelcontrast._autocast import autocast_off
from skelcontrast.evaluation._probe import (
    LinearProbeResult,
    checked_classes,
    positive_numbers,
    probe_result,
    scaled,
    validation_rows,
)
from skelcontrast.evaluation.features import Features

HISTORY = 20  # steps that L-BFGS remembers


def logistic_probe(
    train: Features,
    test: Features,
    *,
    num_classes: int | None = None,
    l2: float | Sequence[float] = 1e-3,
    validation_share: float = 0.1,
    tolerance: float = 1e-5,
    max_iterations: int = 1000,
    standardize: bool = True,
    seed: int = 0,
) -> LinearProbeResult:
    r"""Fit a linear classifier exactly and measure it on other features.

    The minimum of the mean softmax cross-entropy plus :math:`\frac{l_2}{2} \lVert W \rVert^2` (biases are free), found
    by L-BFGS from zero. There is one minimum, but for a constant that all biases share, so nothing depends on a
    learning rate, a schedule or a seed: what is left to choose is the penalty. Of several, the one that is best on a
    part held out of the training set is taken, and a classifier then fitted to the whole training set with it.

    Args:
        train: Features (N, D) and classes (N,) in [0, num_classes).
        test: Features (L, D) and classes (L,) in [0, num_classes), each of them a class of the training set.
        num_classes: Number of classes; one more than the greatest label unless given.
        l2: Strength of the penalty, above zero; or several to choose from. It is 1 / (N C) for the C of scikit-learn.
        validation_share: Share of each class held out to choose among several penalties, in (0, 1).
        tolerance: Greatest element of the gradient at which the fit is done, above zero.
        max_iterations: Most iterations of L-BFGS.
        standardize: Whether features are first brought to zero mean and unit variance over the training set: one
            penalty then means the same for features of any scale. Weight and bias of the result apply to the
            features as they were given.
        seed: Seed of the part held out.

    Returns:
        The classifier, its accuracy, predictions and logits on the test set; `setting` is its penalty.

    Raises:
        TypeError: If a set is not `Features`, features are not floating point tensors, or labels not integers.
        ValueError: If shapes do not match, features are not finite, a label or an option is out of range, or the
            training set lacks a class of the test set.
        RuntimeError: If the fit is still far from the minimum after `max_iterations`.

    Note:
        Not the paper's protocol, which is `linear_probe`. float64 features are fitted in float64, others in float32.

    Example:
        >>> train = Features(torch.tensor([[1.0], [2.0], [-1.0], [-2.0]]), torch.tensor([0, 0, 1, 1]))
        >>> test = Features(torch.tensor([[3.0], [-3.0]]), torch.tensor([0, 0]))
        >>> probe = logistic_probe(train, test, l2=0.1)
        >>> probe.predictions, probe.accuracy
        (tensor([0, 1]), 0.5)
        >>> logistic_probe(train, test, l2=(0.01, 0.1), validation_share=0.5).choices
        {0.01: 1.0, 0.1: 1.0}
    """
    owner = "logistic_probe"
    num_classes = checked_classes(owner, train, test, num_classes)
    penalties = positive_numbers(owner, "l2", l2)
    _check.interval(owner, "tolerance", tolerance, 0, open_low=True)
    max_iterations = _check.integer(owner, "max_iterations", max_iterations, 1)
    data = scaled(train, test, standardize=standardize)

    with autocast_off(data.x.device):
        penalty, choices = penalties[0], {}
        if len(penalties) > 1:
            kept, out = validation_rows(owner, data.labels, validation_share, seed=seed)
            x, labels = data.x[kept], data.labels[kept]
            for one in penalties:
                fit = _fit(owner, x, labels, num_classes, one, tolerance, max_iterations)
                predictions = torch.addmm(fit.bias, data.x[out], fit.weight.T).argmax(dim=1)
                choices[one] = float((predictions == data.labels[out]).double().mean())
            penalty = max(choices, key=choices.__getitem__)  # the first of equals
        fit = _fit(owner, data.x, data.labels, num_classes, penalty, tolerance, max_iterations)
        return probe_result(data, fit.weight, fit.bias, setting=penalty, epoch=fit.iterations, choices=choices)


class _Fit(NamedTuple):
    weight: Tensor
    bias: Tensor
    iterations: int


def _fit(
    owner: str, x: Tensor, labels: Tensor, num_classes: int, l2: float, tolerance: float, max_iterations: int
) -> _Fit:
    """Return the minimum of the penalised cross-entropy.

    The large products run in the dtype of the features; parameters, sums over samples and the line search in float64,
    without which the search could not see the last of the descent.
    """
    N, D = x.shape
    parameters = torch.zeros(num_classes, D + 1, dtype=torch.float64, device=x.device, requires_grad=True)
    gradient = torch.empty_like(parameters)
    parameters.grad = gradient
    logits = x.new_empty(N, num_classes)
    target, minus_one = labels[:, None], x.new_full((N, 1), -1.0)

    @torch.no_grad()
    def closure() -> Tensor:
        weight, bias = parameters[:, :-1], parameters[:, -1]
        torch.addmm(bias.to(x.dtype), x, weight.to(x.dtype).T, out=logits)
        normalizer = logits.logsumexp(dim=1, keepdim=True)
        loss = normalizer.sum(dtype=torch.float64) - logits.gather(1, target).sum(dtype=torch.float64)
        error = logits.sub_(normalizer).exp_().scatter_add_(1, target, minus_one)
        gradient[:, :-1] = (error.T @ x).double() / N + l2 * weight
        gradient[:, -1] = error.sum(dim=0, dtype=torch.float64) / N
        return loss / N + 0.5 * l2 * weight.square().sum()

    optimizer = torch.optim.LBFGS(
        [parameters],
        max_iter=max_iterations,
        max_eval=4 * max_iterations,
        history_size=HISTORY,
        tolerance_grad=tolerance,
        tolerance_change=0.0,
        line_search_fn="strong_wolfe",
    )
    optimizer.step(closure)
    iterations = int(optimizer.state[parameters]["n_iter"])
    closure()
    slope = float(gradient.abs().max())
    if not slope <= 100 * tolerance:  # rounding may stop the search short of the tolerance, but not this short
        got = f"a gradient of {slope:.1e} after {iterations} at penalty {l2:g}"
        hint = "Raise `l2`, or set standardize=True."
        _check.fail(owner, "max_iterations", "let the fit converge", got, hint=hint, kind=RuntimeError)
    found = parameters.detach().to(x.dtype)
    return _Fit(found[:, :-1], found[:, -1], iterations)
