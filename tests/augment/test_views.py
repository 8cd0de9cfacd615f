import pytest
import torch

from skelcontrast.augment import Shear, TemporalCrop, TemporalFlip, Views, extreme, normal
from skelcontrast.skeleton import UTD_MHAD_20

X = torch.randn(5, 3, 9, 20, 1, generator=torch.Generator().manual_seed(0))


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_each_view_is_what_its_transform_makes_of_its_own_draws() -> None:
    shear, crop = Shear(p=1.0), TemporalCrop(3)
    views = Views(shear, crop, Shear(p=1.0))
    (of_shear, of_crop) = params = views.sample(X, seeded())
    first, second, third = views.apply(X, params)
    assert of_shear.matrix.shape[0] == 10  # both sheared views are one batch
    assert torch.equal(first, shear.apply(X, type(of_shear)(*(drawn[:5] for drawn in of_shear))))
    assert torch.equal(third, shear.apply(X, type(of_shear)(*(drawn[5:] for drawn in of_shear))))
    assert torch.equal(second, crop.apply(X, of_crop))
    assert not torch.equal(first, third)


def test_paper_views_replay_and_leave_the_batch_as_it_was() -> None:
    views, before = Views(normal(), normal(), extreme(UTD_MHAD_20)), X.clone()
    made = views(X, seeded(3))
    assert torch.equal(X, before)
    assert [view.shape for view in made] == [X.shape] * 3
    again = views.apply(X, views.sample(X, seeded(3)))
    assert all(torch.equal(one, other) for one, other in zip(made, again, strict=True))
    assert not any(torch.equal(one, other) for one, other in zip(made, views(X, seeded(4)), strict=True))


def test_draws_of_equal_views_are_independent_and_of_the_same_law() -> None:
    x = torch.arange(2.0).reshape(1, 1, 2, 1, 1).expand(4000, -1, -1, -1, -1)
    first, second = (view[:, 0, 0, 0, 0].bool() for view in Views(TemporalFlip(), TemporalFlip())(x, seeded()))
    shares = [float(share.float().mean()) for share in (first, second, first & second)]
    assert shares == pytest.approx([0.5, 0.5, 0.25], abs=0.03)


def test_repr_shows_every_view() -> None:
    assert repr(Views(TemporalFlip(), Shear())) == "Views(TemporalFlip(p=0.5), Shear(amplitude=0.5, p=1.0))"


def test_wrong_arguments_are_named() -> None:
    with pytest.raises(ValueError, match="Views: `transforms` must hold at least 1 transform, got 0"):
        Views()
    with pytest.raises(TypeError, match=r"Views: `transforms` must be transforms, got .*Shear.*Was the class meant"):
        Views(Shear)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"got \[Shear.*\]\. Pass each by itself: `Views\(\*transforms\)`\."):
        Views([Shear(), Shear()])  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"Views: `generator` must be a torch\.Generator or None, got 0\. Write"):
        Views(Shear())(X, 0)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="Views: `x` must be floating point"):
        Views(Shear())(X.int())
    with pytest.raises(ValueError, match=r"Views: `params` must have 1 entries, one per distinct transform, got 0"):
        Views(Shear()).apply(X, ())
    views = Views(Shear(), Shear())
    with pytest.raises(ValueError, match="Shear: `params` must be for N = 6 samples, got 10"):
        views.apply(X[:3], views.sample(X))
