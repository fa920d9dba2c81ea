"""Files that hold: what is half-written is never seen, and what is not verified is never read.

`files` replaces files and folders whole, `artifact` is the contract that every artifact keeps;
`tensors`, `objects` and `datasets` read and write the three kinds of file by that contract.
`settings` and `yaml_files` read configs, `weights` and `shards` read weights from anywhere.
"""
