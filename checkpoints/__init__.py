"""The model in the box, installed as the package t2v.checkpoints: files only, no code."""
