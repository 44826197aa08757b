"""What a report is built from: a study folder, strictly read."""
