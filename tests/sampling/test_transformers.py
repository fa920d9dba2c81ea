"""Language models of Hugging Face and TransformerLens, as they come out of the box."""

import warnings
from tempfile import TemporaryDirectory

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from devsort.rng import short_torch_stream
from devsort.sampling import SamplerConfig, module_loss, sample

TOKENS = torch.randint(0, 50, (12, 9), generator=short_torch_stream(0, "tokens"))
SHORT = SamplerConfig(
    geometry="absolute", lr=1e-6, num_chains=2, num_draws=2, num_burnin_steps=0, batch_size=3
)
pytestmark = pytest.mark.filterwarnings("ignore")


def gpt2():
    from transformers import GPT2Config, GPT2LMHeadModel

    config = GPT2Config(vocab_size=50, n_embd=8, n_layer=1, n_head=2, n_positions=16)
    with torch.random.fork_rng():
        return GPT2LMHeadModel(config)


def hooked():
    from transformer_lens import HookedTransformer, HookedTransformerConfig

    config = HookedTransformerConfig(
        n_layers=1, d_model=8, n_ctx=16, d_head=4, n_heads=2, d_vocab=50, act_fn="relu", seed=0
    )
    with torch.random.fork_rng():
        return HookedTransformer(config)


def bridge():
    from tokenizers import Tokenizer, models
    from transformer_lens.model_bridge import TransformerBridge
    from transformers import PreTrainedTokenizerFast

    words = models.WordLevel({str(i): i for i in range(50)}, unk_token="0")
    special = {"unk_token": "0", "bos_token": "1", "eos_token": "1", "pad_token": "2"}
    with TemporaryDirectory() as folder, torch.random.fork_rng():
        PreTrainedTokenizerFast(tokenizer_object=Tokenizer(words), **special).save_pretrained(
            folder
        )
        tokenizer = PreTrainedTokenizerFast.from_pretrained(folder)
        return TransformerBridge.boot_transformers(
            "gpt2", hf_model=gpt2(), tokenizer=tokenizer, device="cpu"
        )


def own_loss(model, batch):
    """Hugging Face's own mean, from a dict batch."""
    return model(**batch)


def by_token(model, batch):
    """The loss of each token, from an output of Hugging Face."""
    ids = batch["input_ids"]
    return F.cross_entropy(model(ids).logits[:, :-1].mT, ids[:, 1:], reduction="none")


def lens(model, batch):
    """The loss of each token, as TransformerLens gives it."""
    return model(batch["input_ids"], return_type="loss", loss_per_token=True)


BATCH = {"input_ids": TOKENS, "labels": TOKENS}
MODELS = {
    "Hugging Face, its own loss": (gpt2, own_loss),
    "Hugging Face, each token": (gpt2, by_token),
    "HookedTransformer": (hooked, lens),
    "the bridge": (bridge, lens),
}


@pytest.mark.parametrize("name", MODELS)
def test_a_language_model_is_sampled_and_not_touched(name):
    make, loss = MODELS[name]
    model = make().train()
    before = {n: p.detach().clone() for n, p in model.named_parameters()}
    functional, params = module_loss(model, loss)
    trace = sample(functional, params, BATCH, SHORT)
    assert trace.dimension == sum(p.numel() for p in model.parameters() if p.requires_grad)
    assert np.isfinite(trace.loss).all() and (trace.distance[:, -1] > 0).all()
    assert model.training and all(torch.equal(p, before[n]) for n, p in model.named_parameters())
    assert all(p.grad is None for p in model.parameters())


def test_a_loss_of_hugging_face_is_none_given_needs_no_words():
    with warnings.catch_warnings(action="ignore"):
        loss, params = module_loss(gpt2())
    expected = gpt2_loss_at(params)
    assert float(loss(params, BATCH).loss) == pytest.approx(expected, rel=1e-5)


def test_with_an_attention_mask_chains_are_computed_one_after_the_other():
    """Hugging Face branches on its values; where nothing is padded the losses are the same."""
    with warnings.catch_warnings(action="ignore"):
        loss, params = module_loss(gpt2())
    masked = {**BATCH, "attention_mask": torch.ones_like(TOKENS)}
    with pytest.warns(UserWarning, match="chains are computed one by one"):
        found = sample(loss, params, masked, SHORT)
    np.testing.assert_allclose(found.loss, sample(loss, params, BATCH, SHORT).loss, rtol=1e-4)


def gpt2_loss_at(params) -> float:
    """The loss of a plain model at these weights."""
    model = gpt2().eval()
    model.load_state_dict({**model.state_dict(), **params})
    model.tie_weights()
    with torch.no_grad():
        return float(model(**BATCH).loss)
