"""The flat vector and back."""

import torch

from devsort.layout import Layout

SHAPES = {"b": (2, 3), "scalar": (), "a": (4,)}


def test_flatten_and_views_are_inverse_for_any_leading_axes():
    layout = Layout(SHAPES)
    assert layout.size == 11
    for lead in [(), (5,), (2, 5)]:
        params = {name: torch.randn((*lead, *size)) for name, size in SHAPES.items()}
        flat = layout.flatten(params)
        assert flat.shape == (*lead, 11)
        views = layout.views(flat)
        assert all(torch.equal(views[name], value) for name, value in params.items())


def test_the_order_of_the_dict_changes_nothing():
    params = {name: torch.randn(size) for name, size in SHAPES.items()}
    backwards = dict(reversed(params.items()))
    assert list(Layout.of(params).slices.items()) == list(Layout.of(backwards).slices.items())
    assert torch.equal(Layout.of(params).flatten(params), Layout.of(backwards).flatten(backwards))
    assert list(Layout.of(params).shapes) == ["a", "b", "scalar"]


def test_views_share_memory():
    flat = torch.zeros(3, 11)
    Layout(SHAPES).views(flat)["b"][1] = 7
    assert flat.sum() == 42 and flat[1, 4:10].eq(7).all()
