"""What each variable of heads.zarr means, and its unit; docs/head-modes.md has the equations."""

NATS, LOGITS, SHARE = "nats", "logits", "1"
MEASURES = {
    "attention": ("attention to the position of the answer t", SHARE),
    "copy_effect": ("what copying adds to the logit of t", LOGITS),
    "direct_effect": ("what the head adds to the logit of t", LOGITS),
    "loss_increase": ("rise of the loss with the head at its mean", NATS),
    "loss_increase_resample": ("the same with the head's output on another list", NATS),
    "suppression_gain": ("rise of the loss without the head's suppression", NATS),
}
STRENGTH = {
    "lowered_share": ("share of the numbers whose logit the head lowers", SHARE),
    "lowered_ratio": ("mean of −copy_ratio over these", SHARE),
    "mean_suppression_gain": ("suppression_gain over all answers", NATS),
    "suppression_z": ("it over its standard error", "1"),
}
VARIABLES = {
    "checkpoint": ("training step of the checkpoint", "steps"),
    "head": ("number of the head", ""),
    "number": ("number t that is the answer", ""),
    "score": ("name of a score", ""),
    "label": ("name of a way in which heads divide the work", ""),
    "bound": ("low and high end of a 95 % interval", ""),
    "loss": ("cross-entropy on the evaluation lists", NATS),
    "accuracy": ("share of right answers", SHARE),
    **MEASURES,
    **{f"{name}_se": (f"standard error: {m}", unit) for name, (m, unit) in MEASURES.items()},
    "copies": ("whether the head copies t", ""),
    "suppresses": ("whether the head suppresses t", ""),
    "needed": ("whether the head is needed for t", ""),
    "copy_ratio": ("copy effect over that of the copier; NaN where no other head copies", "1"),
    "copy_ratio_ci95": ("95 % interval of copy_ratio", "1"),
    "owner": ("head that owns t, −1 for none", ""),
    "regions": ("runs of neighbouring numbers with one owner", "1"),
    **STRENGTH,
    **{f"{name}_ci95": (f"95 % interval: {m}", unit) for name, (m, unit) in STRENGTH.items()},
    "scores": ("scores of the network", "1"),
    "score_ci95": ("95 % interval of scores", "1"),
    "score_draws": ("scores of each bootstrap draw", "1"),
    "labels": ("whether the label holds", ""),
    "label_draws": ("whether it holds in each bootstrap draw", ""),
    "ov_rank": ("effective rank of W_V W_O", "1"),
    "qk_rank": ("effective rank of W_Q W_K^T", "1"),
    "head_norm": ("Euclidean norm of the head's weights", "1"),
    "weight_norm": ("Euclidean norm of all weights", "1"),
    "residual_rank": ("effective rank of the residual stream before the unembedding", "1"),
}
