"""Choosing data so that a wanted structure forms: shift, weights over lists, and retraining."""
