"""Names of restrictions and the entries that they free."""

import pytest
import torch

from devsort.errors import UserError
from devsort.sorting.model import ATTN, Shape, param_shapes
from devsort.sorting.restrictions import expand, restriction_mask, whole_head

SHAPE = Shape(list_length=3, numbers=7, heads=3, d_model=8, d_head=4, layer_norm=True)
SIZES = param_shapes(SHAPE)


def free(name: str, shape: Shape = SHAPE) -> dict[str, int]:
    """Free entries of each parameter that has any."""
    mask = restriction_mask(name, shape)
    counts = {n: SIZES[n] if part is None else part for n, part in mask.items()}
    return {
        n: int(torch.zeros(c).numel() if isinstance(c, tuple) else c.sum())
        for n, c in counts.items()
    }


def test_full_frees_everything():
    assert restriction_mask("full", SHAPE) is None


def test_a_head_is_its_four_matrices_and_three_biases():
    expected = {f"W_{m}": 32 for m in "QKVO"} | {f"b_{m}": 4 for m in "QKV"}
    assert free("h1") == {ATTN + leaf: n for leaf, n in expected.items()}
    mask = restriction_mask("h1", SHAPE)
    assert all(part[1].all() and not part[[0, 2]].any() for part in mask.values())


def test_qk_and_ov_are_a_partition_of_the_head():
    qk, ov, whole = free("h2.qk"), free("h2.ov"), free("h2")
    assert set(qk) & set(ov) == set() and qk | ov == whole
    assert {n.rsplit(".", 1)[1] for n in qk} == {"W_Q", "W_K", "b_Q", "b_K"}


def test_groups_and_heads_leave_out_the_output_bias_alone():
    names = [*expand(("heads",), 3), "embed", "pos", "unembed", "norms"]
    total = [n for name in names for n in free(name).items()]
    rest = {ATTN + "b_O"}
    assert sum(count for _, count in total) == sum(
        torch.zeros(s).numel() for n, s in SIZES.items() if n not in rest
    )
    assert {n for n, _ in total} == set(SIZES) - rest


def test_patterns_match_parameter_names_with_case():
    assert set(free("blocks.0.attn.W_*")) == {ATTN + f"W_{m}" for m in "QKVO"}
    assert set(free("*.b_?")) == {ATTN + f"b_{m}" for m in "QKVO"} | {"unembed.b_U"}
    with pytest.raises(UserError):
        restriction_mask("blocks.0.attn.w_*", SHAPE)


def test_expand_keeps_order_and_drops_repetitions():
    assert expand(("h1", "full", "heads", "full"), 3) == ("h1", "full", "h0", "h2")


@pytest.mark.parametrize(
    ("name", "head"), [("h0", 0), ("h12", 12), ("h0.qk", None), ("full", None), ("hh0", None)]
)
def test_whole_head(name, head):
    assert whole_head(name) == head


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("h3", "llc.restrictions: 'h3', but the model has 3 heads; heads are counted from h0"),
        (
            "h7.ov",
            "llc.restrictions: 'h7.ov', but the model has 3 heads; heads are counted from h0",
        ),
        (
            "heds",
            "llc.restrictions: no parameter matches 'heds'; "
            "use full, heads, h0, h0.qk, h0.ov, embed, pos, unembed, norms or a pattern of names",
        ),
    ],
)
def test_unknown_names_are_refused(name, message):
    with pytest.raises(UserError) as error:
        restriction_mask(name, SHAPE)
    assert str(error.value) == message


def test_norms_of_a_model_without_layer_norm_are_refused():
    bare = Shape(3, 7, 3, 8, 4, layer_norm=False)
    with pytest.raises(UserError, match="no parameter matches 'norms'"):
        restriction_mask("norms", bare)
