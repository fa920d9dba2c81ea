"""Your own networks: from a folder of checkpoints to a stage chart.

`sources` reads checkpoints, `states` matches a state dict to a loss, `restrictions` selects the
weights that move, `sampler` samples them, and `trajectory` combines these steps. `stages`,
`calibrate` and `spec` build on trajectories. See docs/your-own-network.md.
"""
