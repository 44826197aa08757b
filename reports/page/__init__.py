"""The report as one HTML page and one Markdown file."""
