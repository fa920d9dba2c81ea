"""Files of other programs, in all the ways in which people have them.

Tables of wandb and devinterp with `--columns`; sorting networks with prefixes, folded layer norms
or tensors too many; folders of GPT-2. Each is read, or refused in one line.
"""

import functools
import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save
from soak.inputs import PARAMS, Properties, check, no_picture
from torch import Tensor

# ---- tables

HEADERS = [
    ["Step", "run - llc/mean", "run - llc/mean__MIN", "run - llc/mean__MAX", "run - llc/std"],
    ["", "_step", "_runtime", "llc/mean", "llc/std", "val_loss", "train_loss"],
    ["step", "llc_mean", "llc_std", "num_chains"],
    ["step", "lambda_hat", "sem", "loss", "flags"],
    ["tokens", "rlct", "err"],
]
CHOICES = [
    *("chains=4", "chains=0", "chains=x", "step=tokens llc=rlct se=err", "llc=run - llc/mean"),
    *("loss=val_loss", "se=llc_std", "std=sem", "flag=loss", "step=llc_mean", "llc=", "x=y", "="),
]
numbers = st.one_of(
    st.floats(-10, 1e4, allow_nan=False).map(lambda x: f"{x:.3f}"),
    st.integers(0, 5000).map(str),
    st.sampled_from(["", "NaN", "1e3", "-0", "4", "4", "4"]),
)
strange = st.sampled_from(["1,234", "1.234", "inf", "[]", "x"])
choices = st.lists(st.sampled_from(CHOICES) | st.text(max_size=9), min_size=1, max_size=2)
usual = st.sampled_from([[], ["chains=4"]])
columns = st.one_of(usual, usual, usual, choices)
steps = st.lists(st.integers(0, 10**6).map(str), min_size=3, max_size=9, unique=True)


@st.composite
def tables(draw: st.DrawFn) -> str:
    """A table of one of the headers, with any separator and decimal mark."""
    header, separator = draw(st.sampled_from(HEADERS)), draw(st.sampled_from(",;\t"))
    comma = separator != "," and draw(st.booleans())
    lines = [separator.join(header)]
    for step in draw(steps):
        row = draw(st.lists(numbers, min_size=len(header), max_size=len(header)))
        known = {"step": step, "_step": step, "tokens": step, "num_chains": "4"}
        row = [known.get(name.lower(), x) for name, x in zip(header, row, strict=True)]
        lines.append(separator.join(row).replace(".", "," if comma else "."))
    if draw(st.integers(0, 3)) == 3:
        lines[-1] = separator.join(draw(strange) for _ in header)
    return draw(st.sampled_from(["", "\ufeff", "# a run\n"])) + "\n".join(lines)


@given(tables(), columns)
def tables_of_peers(text: str, chosen: list[str]) -> None:
    """Exports of other programs, with columns chosen for better or worse."""
    options = [part for choice in chosen for part in ("--columns", choice.replace("\0", ""))]
    with (
        tempfile.TemporaryDirectory() as folder,
        patch("matplotlib.figure.Figure.savefig", no_picture),
    ):
        Path(folder, "t.csv").write_text(text, encoding="utf-8")
        few = ("--set", "stages.bootstrap=2", "--out", f"{folder}/out")
        check("stages", "--trajectory", f"{folder}/t.csv", "--json", *few, *options)


# ---- state dicts

State = dict[str, Tensor]
LN = ("blocks.0.ln1.w", "blocks.0.ln1.b", "ln_final.w", "ln_final.b")
CHANGES: dict[str, Callable[[State], Any]] = {
    "compiled": lambda s: {f"_orig_mod.{n}": t for n, t in s.items()},
    "parallel": lambda s: {f"module.{n}": t for n, t in s.items()},
    "of Lightning": lambda s: {f"model.{n}": t for n, t in s.items()},
    "no norms": lambda s: {n: t for n, t in s.items() if not n.endswith(LN)},
    "half of the norms": lambda s: {n: t for n, t in s.items() if not n.endswith(LN[2:])},
    "no biases": lambda s: {n: t for n, t in s.items() if ".b" not in n},
    "scaled": lambda s: {n: 30 * t for n, t in s.items()},
    "half": lambda s: {n: t.half() for n, t in s.items()},
    "bfloat16": lambda s: {n: t.bfloat16() for n, t in s.items()},
    "integers": lambda s: {n: t.int() for n, t in s.items()},
    "NaN": lambda s: {n: t / 0 for n, t in s.items()},
    "transposed": lambda s: {n: t.mT.contiguous() if t.dim() > 1 else t for n, t in s.items()},
    "more positions": lambda s: {n: torch.cat([t, t]) if "W_pos" in n else t for n, t in s.items()},
    "a norm of queries": lambda s: s | {"blocks.0.attn.q_norm.w": torch.ones(2)},
    "another layer": lambda s: s | {n.replace(".0.", ".1."): t + 0 for n, t in s.items()},
    "one tensor less": lambda s: dict(list(s.items())[1:]),
}
WRAPPED: dict[str, Callable[[State], Any]] = {
    "plain": lambda s: s,
    "a checkpoint": lambda s: {"model_state_dict": s, "epoch": 3},
    "of Lightning": lambda s: {"state_dict": s, "callbacks": {}, "loops": {}},
    "two": lambda s: {"model": s, "ema": s},
    "deep": lambda s: {"checkpoint": {"model": s}},
    "a list": lambda s: list(s.values()),
}
changes = st.lists(st.sampled_from(sorted(CHANGES)), max_size=3)
norms = st.sampled_from(["auto", "auto", "folded", "none", "file"])


@given(changes, st.sampled_from(sorted(WRAPPED)), norms)
def networks(changed: list[str], wrapped: str, norm: str) -> None:
    """A sorting network as wrappers, trainers and converters leave it."""
    state: State = dict(PARAMS)
    for change in changed:
        state = CHANGES[change](state)
    small = ("--list-length", "2", "--numbers", "5", "--norm", norm)
    few = ("--set", "heads.lists=4", "--set", "heads.bootstrap=2")
    with tempfile.TemporaryDirectory() as folder:
        torch.save(WRAPPED[wrapped](state), f"{folder}/w.pt")
        check("heads", "--weights", f"{folder}/w.pt", "--json", *small, *few)


# ---- GPT-2

CONFIGS: list[dict[str, Any]] = [
    {"tie_word_embeddings": False},
    {"n_layer": 2},
    {"n_layer": -1},
    {"n_head": 3},
    {"n_positions": "x"},
    {"vocab_size": 10**9},
    {"model_type": "gpt_neo"},
    {"model_type": ["gpt2"]},
    {"activation_function": "nothing"},
    {"quantization_config": {}},
    {"auto_map": {"AutoConfig": "evil.Config"}},
    {"torch_dtype": "float16"},
]
TENSORS: dict[str, Callable[[State], State]] = {
    "of GPT2Model": lambda s: {n.removeprefix("transformer."): t for n, t in s.items()},
    "compiled": CHANGES["compiled"],
    "half": CHANGES["half"],
    "integers": CHANGES["integers"],
    "NaN": CHANGES["NaN"],
    "one tensor less": CHANGES["one tensor less"],
    "a head": lambda s: s | {"lm_head.weight": torch.ones(9, 4)},
    "an adapter": lambda s: s | {"transformer.h.0.attn.c_attn.lora_A.weight": torch.ones(2, 4)},
    "nothing": lambda s: {},
}


@functools.cache
def small_gpt2() -> tuple[dict[str, Any], State]:
    """Settings and weights of one layer."""
    from transformers import GPT2Config, GPT2LMHeadModel

    sizes = {"vocab_size": 9, "n_embd": 4, "n_head": 2, "n_layer": 1, "n_positions": 5}
    config = GPT2Config(**sizes, bos_token_id=0, eos_token_id=0)
    model = GPT2LMHeadModel(config)
    state = {n: t.detach().clone() for n, t in model.transformer.named_parameters("transformer")}
    return config.to_dict(), state


@given(
    st.lists(st.sampled_from(CONFIGS), max_size=1),
    st.lists(st.sampled_from(sorted(TENSORS)), max_size=1),
    st.sampled_from(["model.safetensors", "pytorch_model.bin"]),
)
def gpt2_folders(settings: list[dict], changed: list[str], name: str) -> None:
    """A GPT-2 whose config and weights do not go together."""
    config, state = small_gpt2()
    for change in changed:
        state = TENSORS[change](state)
    with tempfile.TemporaryDirectory() as folder:
        whole = functools.reduce(lambda a, b: a | b, settings, config)
        Path(folder, "config.json").write_text(json.dumps(whole))
        if name.endswith(".bin"):
            torch.save(state, f"{folder}/{name}")
        else:
            Path(folder, name).write_bytes(save({n: t.clone() for n, t in state.items()}))
        check("heads", "--hf", folder, "--json")


PROPERTIES: Properties = {
    "tables of other programs, --columns": (tables_of_peers, 0.06),
    "networks as wrappers leave them": (networks, 0.06),
    "folders of GPT-2": (gpt2_folders, 0.03),
}
