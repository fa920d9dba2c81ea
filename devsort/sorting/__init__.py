"""The laboratory: a one-layer attention-only transformer that learns to sort lists.

It plugs into the instrument with an objective (`objective`), which gives losses and gradients of
stacked lanes, and with a source of checkpoints (`checkpoints`). `run` is the run folder and
`artifacts` lists what is in it; `llc`, `heads`, `stages`, `calibrate` and `compare` are commands.
"""
