"""Networks of users' own: from a folder of checkpoints to a stage chart, by the sorter's own code.

`sources` has the checkpoints, `states` fits a state dict to a loss, `restrictions` says which
weights move, `sampler` samples, `trajectory` puts it together; `stages`, `calibrate` and `spec` are
what follows. See docs/your-own-network.md.
"""
