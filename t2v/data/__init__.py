"""Clips and captions in: files on disk become uint8 arrays `f h w c` and the words that describe them."""
