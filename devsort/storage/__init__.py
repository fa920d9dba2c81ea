"""Safe files: a half-written file is never visible, and an unverified one is never read.

`files` replaces files and folders as a whole. `artifact` is the contract that every artifact keeps;
`tensors`, `objects` and `datasets` read and write the three kinds of files by that contract.
`settings` and `yaml_files` read configs, `weights` and `shards` read weights from anywhere.
"""
