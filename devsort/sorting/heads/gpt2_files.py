"""Reads a GPT-2 of the transformers library from a local folder; nothing is downloaded or executed.

The folder holds config.json and the weights: model.safetensors, pytorch_model.bin, or the shards
that an index file names. Every weight that the config asks for must be there and finite, and none
may be left over. A loader that fills in missing weights would rank heads by random numbers.
"""

import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from devsort.errors import UserError
from devsort.storage.weights import load_weights, refuse_not_finite

if TYPE_CHECKING:
    from transformers import GPT2LMHeadModel

FIX = "give a folder with config.json and model.safetensors or pytorch_model.bin of a GPT-2"
SINGLE = ("model.safetensors", "pytorch_model.bin")
BASE, HEAD, EMBEDDING = "transformer.", "lm_head.weight", "transformer.wte.weight"
INSIDE = re.compile(r"(?<![^.])(wte|wpe|ln_f|h\.\d+)\.")  # how the names in a GPT-2 begin
BUFFERS = (".attn.bias", ".attn.masked_bias")  # masks, which older versions saved


def load_gpt2(folder: str | os.PathLike) -> "GPT2LMHeadModel":
    """Reads a GPT-2 from a local folder, in float32.

    Raises:
        UserError: The folder is missing or holds no GPT-2, or its weights are missing, damaged, not
            finite, or not those that its config asks for.
    """
    folder = Path(folder)
    settings = _read_object(folder / "config.json")
    kind = settings.get("model_type")
    if kind is None:
        raise UserError(f"{folder} holds no config.json with a model_type", FIX)
    if kind != "gpt2":
        raise UserError(f"{folder} holds a model of type {kind}, expected gpt2", FIX)
    state = _weights(folder)
    from transformers import GPT2Config, GPT2LMHeadModel

    try:
        config = GPT2Config.from_dict(settings)
        state = _with_head(state, config.tie_word_embeddings, folder)
        with torch.device("meta"):  # only names and shapes
            _refuse_misfits(state, GPT2LMHeadModel(config).state_dict(), folder)
        model = GPT2LMHeadModel.from_pretrained(
            None, config=config, state_dict=state, dtype=torch.float32
        )
    except UserError:
        raise
    except Exception as e:  # a damaged config can raise anything
        raise UserError(f"{folder} cannot be read as a GPT-2 ({type(e).__name__})", FIX) from None
    return model.eval()


def _weights(folder: Path) -> dict[str, Tensor]:
    """The weights under the names of GPT2LMHeadModel, without its masks."""
    state: dict[str, Tensor] = {}
    for name in _files(folder):
        state |= load_weights(folder / name)
    refuse_not_finite(state, folder)
    named = {_own_name(name): value for name, value in state.items()}
    if len(named) < len(state):
        raise UserError(f"{folder} holds more than one network", "save one of them")
    return {name: value for name, value in named.items() if not name.endswith(BUFFERS)}


def _own_name(name: str) -> str:
    """The name in GPT2LMHeadModel, whatever a wrapper or another class put before it."""
    if match := INSIDE.search(name):
        return f"{BASE}{name[match.start() :]}"
    return HEAD if f".{name}".endswith(f".{HEAD}") else name


def _files(folder: Path) -> list[str]:
    """The names of the weight files of a folder."""
    for name in SINGLE:
        if (folder / name).is_file():
            return [name]
        index = folder / f"{name}.index.json"
        if not index.is_file():
            continue
        shards = _read_object(index).get("weight_map")
        names = set(shards.values()) if isinstance(shards, dict) else set()
        if not names or not all(isinstance(n, str) and Path(n).name == n for n in names):
            raise UserError(f"{index} names no weight files of its folder", FIX)
        return sorted(names)
    raise UserError(f"{folder} holds neither {SINGLE[0]} nor {SINGLE[1]}, nor their index", FIX)


def _with_head(state: dict[str, Tensor], tied: bool, folder: Path) -> dict[str, Tensor]:
    """The weights with the unembedding, which is the embedding if the config ties them."""
    head, embedding = state.get(HEAD), state.get(EMBEDDING)
    if not tied and head is None:
        what = f"{folder} has no {HEAD}, and its config does not tie it to the embedding"
        raise UserError(what, "save the model with its head, as a GPT2LMHeadModel")
    if not tied or embedding is None:
        return state
    if head is not None and not torch.equal(head, embedding):
        what = f"{folder}: {HEAD} differs from the embedding, to which config.json ties it"
        raise UserError(
            what, "if it should differ, set tie_word_embeddings to false in config.json"
        )
    return {**state, HEAD: embedding}


def _refuse_misfits(
    state: Mapping[str, Tensor], expected: Mapping[str, Tensor], folder: Path
) -> None:
    """Refuses weights that are missing, left over, of integers or of another shape."""
    shared = sorted(state.keys() & expected.keys())
    misfits = {
        "lacks weights that its config asks for": sorted(expected.keys() - state.keys()),
        "holds weights that are not understood": sorted(state.keys() - expected.keys()),
        "holds weights that are not real numbers": [
            name for name in shared if not state[name].is_floating_point()
        ],
        "holds weights of other shapes than its config asks for": [
            name for name in shared if state[name].shape != expected[name].shape
        ],
    }
    for what, names in misfits.items():
        if names:
            more = f" and {len(names) - 1} more" if len(names) > 1 else ""
            raise UserError(f"{folder} {what}: {names[0]}{more}", FIX)


def _read_object(path: Path) -> dict[str, Any]:
    """A JSON object; an empty one if there is none."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}
