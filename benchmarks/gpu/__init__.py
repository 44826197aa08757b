"""One command that measures everything that a GPU is for here."""
