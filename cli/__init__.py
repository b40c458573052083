"""The commands of t2v, installed as the package t2v.cli."""
