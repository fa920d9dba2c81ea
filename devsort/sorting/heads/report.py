"""What the `heads` command computes and prints: JSON objects, and short tables of them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from devsort.errors import UserError
from devsort.sorting.config import default_config
from devsort.sorting.heads.step import analyse_weights, run_heads
from devsort.sorting.run import open_run
from devsort.sorting.weight_files import Norm

CHANGED = {
    "loss": "loss",
    "accuracy": "accuracy",
    "entropy": "entropy",
    "confidence": "confidence",
    "calibration_error": "ECE",
}
WITHOUT = {
    "ablated": "head {}",
    "rest": "its suppression",
    "without_own": "its suppression of the answer",
    "without_competitors": "its suppression of competitors",
}
ROWS = 12  # checkpoints in the table of a run; --json has all


def run(path: Path, overrides: tuple[str, ...], force: bool) -> dict[str, Any]:
    """`devsort heads RUN`."""
    return run_heads(open_run(path, overrides), force)


def weights(
    path: Path, list_length: int, numbers: int, norm: Norm, overrides: tuple[str, ...]
) -> dict[str, Any]:
    """`devsort heads --weights FILE`.

    Raises:
        UserError: Lists are longer than there are numbers.
    """
    if list_length > numbers:
        raise UserError(
            f"--list-length {list_length} is more than --numbers {numbers}",
            "lists have no repetition",
        )
    return analyse_weights(path, list_length, numbers, default_config(overrides), norm)


def gpt2(folder: Path) -> dict[str, Any]:
    """`devsort heads --hf FOLDER`."""
    from devsort.sorting.heads.gpt2 import rank_heads

    return rank_heads(folder)


def run_table(value: Mapping[str, Any]) -> str:
    """Scores at up to ROWS checkpoints, the events, and the heads at the last checkpoint."""
    checkpoints = value["checkpoints"]
    indices = sorted({round(i * (len(checkpoints) - 1) / (ROWS - 1)) for i in range(ROWS)})
    lines = [
        f"{'step':>7}{'loss':>9}{'accuracy':>10}{'split':>7}{'suppr.':>8}{'overlap':>9}  labels"
    ]
    for one in (checkpoints[i] for i in indices):
        s = one["scores"]
        figures = f"{s['vocabulary_splitting']:7.2f}{s['copy_suppression']:8.2f}{s['overlap']:9.2f}"
        labels = ", ".join(one["labels"]) or "–"
        lines.append(
            f"{one['step']:7d}{one['loss']:9.4f}{one['accuracy']:10.4f}{figures}  {labels}"
        )
    for e in value["events"]:
        low, high = e["ci95"]
        lines.append(f"{e['event'].replace('_', ' ')} at step {e['step']} (95 %: {low} to {high})")
    last = {**checkpoints[-1], "suppressors": value["suppressors"]}
    return "\n".join([*lines, "", checkpoint_table(last)])


def checkpoint_table(value: Mapping[str, Any]) -> str:
    """Scores with their intervals, labels, and each head's ranges."""
    where = value.get("weights") or f"step {value['step']}"
    norm = f", norm {value['norm']}" if "norm" in value else ""
    lines = [f"{where}: loss {value['loss']:.4f}, accuracy {value['accuracy']:.4f}{norm}"]
    for name, score in value["scores"].items():
        low, high = value["score_ci95"][name]
        lines.append(f"  {name.replace('_', ' '):22}{score:.2f} (95 %: {low:.2f} to {high:.2f})")
    labels = [f"{name} ({value['label_share'][name]:.0%} of resamples)" for name in value["labels"]]
    lines.append(f"  labels: {', '.join(labels) or 'none'}")
    for head in value["heads"]:
        lines += [
            f"  head {head['head']} {what:11}{_ranges(head[what])}"
            for what in ("copies", "suppresses", "needed")
        ]
    lines += [line for one in value["suppressors"] for line in _suppressor(one)]
    return "\n".join([*lines, *(f"note: {note}" for note in value.get("notes", ()))])


def _suppressor(one: Mapping[str, Any]) -> list[str]:
    """Lines of text: which head is suppressed, by how much, and what changes without that."""
    head, copier = one["head"], one["copier"]
    low, high = one["ratio_ci95"]
    ratio = f"{one['ratio']:.3f} (95 %: {low:.3f} to {high:.3f})"
    similarity = f"attention {one['attention_similarity']:.2f}, QK {one['qk_similarity']:.2f}"
    lines = [
        f"  head {head} takes away {ratio} of what head {copier} adds to {one['share']:.0%} of the "
        f"numbers; similarity of the two: {similarity}",
        f"  {'without':34}{''.join(f'{title:>12}' for title in CHANGED.values())}",
    ]
    for name, what in WITHOUT.items():
        figures = "".join(f"{one['changes'][name][key]:+12.4f}" for key in CHANGED)
        lines.append(f"  {what.format(head):34}{figures}")
    lines.append(f"  {'number':>8}{'copy effect, logits':>30}{'ratio to the copier':>30}")
    return lines + [_cell(cell) for cell in one["numbers"]]


def _cell(cell: Mapping[str, Any]) -> str:
    effect, ratio = (
        f"{cell[name]:.2f} ({cell[name + '_ci95'][0]:.2f} to {cell[name + '_ci95'][1]:.2f})"
        for name in ("copy_effect", "ratio")
    )
    return f"  {cell['number']:8d}{effect:>30}{ratio:>30}"


def gpt2_table(value: Mapping[str, Any]) -> str:
    """The heads that suppress what they attend to, strongest first."""
    lines = [f"{'head':>7}{'score':>8}{'lowers own token':>19}{'attends to it':>15}"]
    for h in value["heads"][:ROWS]:
        name = f"{h['layer']}.{h['head']}"
        lines.append(
            f"{name:>7}{h['score']:8.3f}{h['suppressed_share']:19.1%}{h['attended_share']:15.1%}"
        )
    return "\n".join(lines)


def _ranges(ranges: list[list[int]]) -> str:
    return ", ".join(f"{lo}" if lo == hi else f"{lo}–{hi}" for lo, hi in ranges) or "–"
