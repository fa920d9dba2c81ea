"""Charts: figures that read a run's artifacts and draw them; nothing is computed here that is not drawn."""
