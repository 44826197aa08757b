"""Measurements of generated images and of the code's speed, and the regression check."""
