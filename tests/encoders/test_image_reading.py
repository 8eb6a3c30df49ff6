"""Maps on other grids, grey levels, and what is known of an image beside its pixels."""

import clinical  # noqa: F401
from clinical.encoders.image_reading import CoarseView, ImageContext, patch_levels, resample

import pytest
import torch


def test_finer_maps_are_averaged_and_coarser_ones_interpolated():
    fine = torch.arange(16.0).view(1, 1, 4, 4)
    assert resample(fine, (2, 2)).flatten().tolist() == [2.5, 4.5, 10.5, 12.5]
    coarse = resample(torch.tensor([[[[0.0, 4.0]]]]), (1, 4))
    assert coarse.flatten().tolist() == [0.0, 1.0, 3.0, 4.0]


def test_levels_are_those_of_the_slice_itself_and_average_where_hidden(images):
    grey = images.pixels[:, 0]
    slices = images.replace(pixels=torch.stack((grey * 0, grey, grey * 0), 1))
    levels = patch_levels(slices)
    assert torch.equal(levels, patch_levels(images))
    mean = grey[0, 4:8, :4].mean()
    torch.testing.assert_close(levels[0, 4], (mean - 0.449) / 0.1 * images.observed[0, 1, 0])
    assert not levels[~images.observed.flatten(1)].any()


def test_a_coarse_view_says_the_same_whatever_it_counts_from_and_shares_out_the_unusual():
    torch.manual_seed(0)
    view, levels = CoarseView(4, 3), torch.randn(5, 4)
    before = view(levels)
    for usual in (torch.full((4,), -4.0), torch.tensor([1.0, 0.0, 2.0, -3.0])):
        view.count_from(usual)
        torch.testing.assert_close(view(levels), before)
    read = []
    view.linear.register_forward_pre_hook(lambda _module, given: read.append(given[0]))
    view(levels)
    torch.testing.assert_close(read[0], levels - usual)


@pytest.fixture
def context() -> ImageContext:
    torch.manual_seed(0)
    return ImageContext(3, 16, dropout=0.5).eval()


def test_view_and_position_say_nothing_until_they_have_learned(context, images):
    assert torch.equal(context(images), context.time(images.time_hours))


def test_views_and_slices_are_told_apart_once_they_have(context, images):
    torch.nn.init.normal_(context.view)
    torch.nn.init.normal_(context.position)
    one = images.replace(view=torch.ones_like(images.view))
    two = images.replace(view=torch.full_like(images.view, 2))
    torch.testing.assert_close(
        context(two) - context(one), (context.view[2] - context.view[1]).expand(9, -1)
    )
    positions = torch.linspace(0, 1, 9)
    places = context(images.replace(position=positions)) - context(
        images.replace(position=torch.full((9,), 0.5))
    )
    assert torch.pdist(places).min() > 0.1


def test_a_single_image_has_no_position(context, images):
    single = images.replace(position=torch.full((9,), 0.5))
    before = context(single)
    torch.nn.init.normal_(context.position)
    torch.testing.assert_close(context(single), before, rtol=0, atol=1e-5)


def test_the_unknown_view_learns_from_views_forgotten_in_training(context, images):
    known = images.replace(view=torch.ones_like(images.view))
    torch.manual_seed(0)
    context.train()(known).sum().backward()
    assert context.view.grad[0].any()
    assert context.view.grad[1].any()
    assert not context.view.grad[2].any()
