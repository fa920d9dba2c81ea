"""The claims of arXiv 2501.18666, what decides them, and the ablations they need; see studies/paper.yaml."""
