"""The claims of arXiv 2501.18666, what decides them, and the ablations they need.

See studies/paper.yaml.
"""
