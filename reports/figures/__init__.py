"""The plots of a study, each with the rows behind it."""
