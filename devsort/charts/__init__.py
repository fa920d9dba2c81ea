"""Charts: figures from arrays, in one style; nothing is computed here that is not drawn."""
