"""Copy-suppression in a GPT-2.

A planted head is found, and folders that hold no GPT-2 are refused in one line.
"""

import json

import pytest
import torch

from devsort.errors import UserError
from devsort.sorting.heads import gpt2

V, D, HEADS, LAYERS = 24, 64, 2, 3
PLANTED = (2, 1)  # layer, head


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A GPT-2 of small random weights.

    One head looks at the predicted token and lowers it.
    """
    from transformers import GPT2Config, GPT2LMHeadModel

    config = GPT2Config(
        vocab_size=V,
        n_embd=D,
        n_head=HEADS,
        n_layer=LAYERS,
        n_positions=16,
        bos_token_id=0,
        eos_token_id=0,
    )
    model = GPT2LMHeadModel(config)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for p in model.parameters():
            if p.dim() > 1:
                p.copy_(0.02 * torch.randn(p.shape, generator=generator))
        tokens = torch.linalg.qr(torch.randn(D, V, generator=generator))[0].T
        model.transformer.wte.weight.copy_(tokens)
        layer, head = PLANTED
        attention, d = model.transformer.h[layer].attn, D // HEADS
        frame = torch.zeros(D, d)
        frame[:, :V] = tokens.T
        cut = slice(head * d, (head + 1) * d)
        for part in range(3):  # queries, keys and values read the token
            attention.c_attn.weight[:, part * D + cut.start : part * D + cut.stop] = frame
        attention.c_proj.weight[cut] = -frame.T
    path = tmp_path_factory.mktemp("gpt2")
    model.save_pretrained(path)
    return path


def test_the_planted_head_comes_first(folder):
    value = gpt2.rank_heads(folder)
    best, second = value["heads"][:2]
    assert (best["layer"], best["head"]) == PLANTED
    assert best["suppressed_share"] == best["attended_share"] == best["score"] == 1.0
    assert second["score"] < 0.4  # chance is 1 / 24 for each share
    assert len(value["heads"]) == HEADS * LAYERS
    assert value["tokens"] == V


def test_a_copying_head_is_no_suppressor(folder):
    model = gpt2.load_gpt2(folder)
    layer, head = PLANTED
    d = D // HEADS
    with torch.no_grad():
        model.transformer.h[layer].attn.c_proj.weight[head * d : (head + 1) * d] *= -1
    row = list(gpt2.layer_scores(model, layer))[head]
    assert row["suppressed_share"] == 0.0
    assert row["attended_share"] == 1.0


def test_head_weights_give_the_models_own_attention(folder):
    model = gpt2.load_gpt2(folder)
    attention = model.transformer.h[1].attn
    x = torch.randn(1, 5, D, generator=torch.Generator().manual_seed(1))
    w = gpt2.head_weights(attention, HEADS)
    q, k = x @ w["Q"] + w["b_Q"][:, None], x @ w["K"]
    scores = (q @ k.mT / (D // HEADS) ** 0.5).masked_fill(
        torch.ones(5, 5).triu(1).bool(), -torch.inf
    )
    mine = (scores.softmax(-1) @ (x @ w["V"]) @ w["O"]).sum(0)
    with torch.no_grad():
        assert torch.allclose(mine, attention(x)[0][0], atol=1e-5)


def test_fewer_tokens_are_enough(folder):
    value = gpt2.rank_heads(folder, tokens=10)
    assert value["tokens"] == 10
    assert (value["heads"][0]["layer"], value["heads"][0]["head"]) == PLANTED


FIX = "give a folder with config.json and model.safetensors or pytorch_model.bin of a GPT-2"


def refused(path) -> str:
    with pytest.raises(UserError) as e:
        gpt2.rank_heads(path)
    return str(e.value)


def test_a_folder_without_config_is_refused(tmp_path):
    assert refused(tmp_path) == f"{tmp_path} holds no config.json with a model_type; {FIX}"


def test_another_kind_of_model_is_refused(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "llama"}))
    assert refused(tmp_path) == f"{tmp_path} holds a model of type llama, expected gpt2; {FIX}"


def test_a_pickle_instead_of_safetensors_is_refused(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "gpt2"}))
    (tmp_path / "pytorch_model.bin").write_bytes(b"cos\nsystem\n(S'touch /tmp/owned'\ntR.")
    told = f"{tmp_path / 'pytorch_model.bin'} is no weight file; "
    assert refused(tmp_path) == f"{told}give a .safetensors file, or one of torch.save"


def test_a_folder_without_weights_is_refused(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "gpt2"}))
    neither = "holds neither model.safetensors nor pytorch_model.bin, nor their index"
    assert refused(tmp_path) == f"{tmp_path} {neither}; {FIX}"


def test_a_damaged_file_is_refused(folder, tmp_path):
    (tmp_path / "config.json").write_text((folder / "config.json").read_text())
    (tmp_path / "model.safetensors").write_bytes((folder / "model.safetensors").read_bytes()[:1000])
    started = f"{tmp_path / 'model.safetensors'} is not a weight file that can be read safely ("
    assert refused(tmp_path).startswith(started)


def test_missing_weights_are_refused(folder, tmp_path):
    from safetensors.torch import load_file, save_file

    (tmp_path / "config.json").write_text((folder / "config.json").read_text())
    weights = load_file(folder / "model.safetensors")
    name = "transformer.h.0.attn.c_attn.weight"
    weights.pop(name)
    save_file(weights, tmp_path / "model.safetensors", {"format": "pt"})
    lacks = f"{tmp_path} lacks weights that its config asks for: {name}; {FIX}"
    assert refused(tmp_path) == lacks


# ---- the forms in which people have one


def written(path, folder, state, **config):
    """The planted GPT-2 with other weights or another config."""
    from safetensors.torch import save_file

    settings = json.loads((folder / "config.json").read_text()) | config
    (path / "config.json").write_text(json.dumps(settings))
    save_file({n: v.clone() for n, v in state.items()}, path / "model.safetensors")
    return path


@pytest.fixture(scope="module")
def state(folder):
    from safetensors.torch import load_file

    return load_file(folder / "model.safetensors")


def best(path) -> tuple[int, int]:
    row = gpt2.rank_heads(str(path))["heads"][0]
    return row["layer"], row["head"]


def of_gpt2_model(state):
    return {name.removeprefix("transformer."): value for name, value in state.items()}


def with_masks(state):
    mask = torch.ones(1, 1, 16, 16).tril().bool()
    return state | {f"transformer.h.{i}.attn.bias": mask for i in range(LAYERS)}


def compiled(state):
    return {f"_orig_mod.{name}": value for name, value in state.items()}


def with_head(state):
    return state | {"lm_head.weight": state["transformer.wte.weight"]}


FORMS = [of_gpt2_model, with_masks, compiled, with_head]


@pytest.mark.parametrize("form", FORMS)
def test_other_names_and_old_masks_are_understood(folder, state, tmp_path, form):
    assert best(written(tmp_path, folder, form(state))) == PLANTED


@pytest.mark.parametrize("form", ["safetensors", "bin", "one .bin"])
def test_shards_and_bins_are_read(folder, state, tmp_path, form):
    from safetensors.torch import save_file

    write = {"safetensors": save_file}.get(form, torch.save)
    single = "model.safetensors" if form == "safetensors" else "pytorch_model.bin"
    (tmp_path / "config.json").write_text((folder / "config.json").read_text())
    if form == "one .bin":
        torch.save(state, tmp_path / single)
    else:
        names = sorted(state)
        shards = {"a": names[::2], "b": names[1::2]}
        for shard, held in shards.items():
            write({n: state[n].clone() for n in held}, tmp_path / shard)
        held_by = {name: shard for shard, held in shards.items() for name in held}
        index = {"weight_map": held_by}
        (tmp_path / f"{single}.index.json").write_text(json.dumps(index))
    assert best(tmp_path) == PLANTED


def test_an_untied_head_is_used(folder, state, tmp_path):
    """With another token for each row of the head, the planted head no longer suppresses."""
    head = state["transformer.wte.weight"].roll(1, 0)
    path = written(tmp_path, folder, state | {"lm_head.weight": head}, tie_word_embeddings=False)
    model = gpt2.load_gpt2(path)
    assert torch.equal(model.lm_head.weight, head)
    assert torch.equal(model.transformer.wte.weight, state["transformer.wte.weight"])


def test_the_callers_generators_are_not_touched(folder):
    torch.manual_seed(1)
    expected = torch.rand(1)
    torch.manual_seed(1)
    gpt2.load_gpt2(folder)
    assert torch.equal(torch.rand(1), expected)


def lone(name):
    return lambda state: {n: v for n, v in state.items() if n != name}


def nan(state):
    broken = state["transformer.h.1.mlp.c_fc.weight"].clone()
    broken[3, 4] = torch.nan
    return state | {"transformer.h.1.mlp.c_fc.weight": broken}


BROKEN = {
    "no head, not tied": (
        of_gpt2_model,
        {"tie_word_embeddings": False},
        " has no lm_head.weight, and its config does not tie it to the embedding; "
        "save the model with its head, as a GPT2LMHeadModel",
    ),
    "a head that differs, tied": (
        lambda state: state | {"lm_head.weight": 2 * state["transformer.wte.weight"]},
        {},
        ": lm_head.weight differs from the embedding, to which config.json ties it; "
        "if it should differ, set tie_word_embeddings to false in config.json",
    ),
    "NaN": (
        nan,
        {},
        ": transformer.h.1.mlp.c_fc.weight holds values that are not finite; "
        "give the weights of a step before training diverged",
    ),
    "integers": (
        lambda state: state | {"transformer.wpe.weight": state["transformer.wpe.weight"].int()},
        {},
        f" holds weights that are not real numbers: transformer.wpe.weight; {FIX}",
    ),
    "complex": (
        lambda state: state | {"transformer.wpe.weight": state["transformer.wpe.weight"] + 0j},
        {},
        "/model.safetensors: transformer.wpe.weight is complex; give real weights",
    ),
    "an adapter": (
        lambda state: state | {"transformer.h.0.attn.c_attn.lora_A.weight": torch.ones(4, 4)},
        {},
        f" holds weights that are not understood: transformer.h.0.attn.c_attn.lora_A.weight; {FIX}",
    ),
    "a weight that is not understood": (
        lambda state: state | {"transformer.h.0.attn.q_norm.weight": torch.ones(4)},
        {},
        f" holds weights that are not understood: transformer.h.0.attn.q_norm.weight; {FIX}",
    ),
    "fewer layers in the file": (
        lambda state: state,
        {"n_layer": LAYERS + 1},
        f" lacks weights that its config asks for: transformer.h.{LAYERS}.attn.c_attn.bias "
        f"and 11 more; {FIX}",
    ),
    "no embedding": (
        lone("transformer.wte.weight"),
        {},
        f" lacks weights that its config asks for: lm_head.weight and 1 more; {FIX}",
    ),
    "a wider config": (
        lambda state: state,
        {"vocab_size": V + 1},
        " holds weights of other shapes than its config asks for: lm_head.weight and 1 more; "
        + FIX,
    ),
}


@pytest.mark.parametrize("case", BROKEN)
def test_weights_that_a_loader_would_fill_in_or_leave_out_are_refused(
    folder, state, tmp_path, case
):
    change, config, message = BROKEN[case]
    assert refused(written(tmp_path, folder, change(state), **config)) == f"{tmp_path}{message}"
