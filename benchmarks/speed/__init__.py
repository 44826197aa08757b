"""Speed: the fast paths against the reference paths in one run, their limits, and memory."""
