"""A table as data and as text, and the tables of a study by what they are about."""
