"""Measures of arrays: what a clip shows, how far two sets of clips are apart, how much moves, what was copied."""
