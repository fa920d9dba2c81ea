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


FIX = "give a folder with config.json and model.safetensors of a GPT-2"


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
    assert refused(tmp_path) == f"{tmp_path / 'model.safetensors'} is missing; {FIX}"


def test_a_damaged_file_is_refused(folder, tmp_path):
    (tmp_path / "config.json").write_text((folder / "config.json").read_text())
    (tmp_path / "model.safetensors").write_bytes((folder / "model.safetensors").read_bytes()[:1000])
    assert refused(tmp_path).startswith(f"{tmp_path} cannot be read as a GPT-2 (")


def test_missing_weights_are_refused(folder, tmp_path):
    from safetensors.torch import load_file, save_file

    (tmp_path / "config.json").write_text((folder / "config.json").read_text())
    weights = load_file(folder / "model.safetensors")
    weights.pop("transformer.h.0.attn.c_attn.weight")
    save_file(weights, tmp_path / "model.safetensors", {"format": "pt"})
    assert (
        refused(tmp_path) == f"{tmp_path} lacks weights that its config asks for (1 missing); {FIX}"
    )
