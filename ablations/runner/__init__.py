"""Carries out studies: steps with keys, a store of what they made, cells, engines. It knows no step by name."""
