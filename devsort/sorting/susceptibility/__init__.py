"""Which data each head responds to, over training.

`probe` says which losses are followed, `sampler` follows them at the draws of the LLC, and `step`
writes susceptibility.zarr. The equations are in `devsort.susceptibility.response`.
"""
