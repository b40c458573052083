"""Optimizer state survives the way through tensors and JSON."""

import json

import torch

from t2v.checkpoint.tree import flatten, unflatten


def test_a_nested_tree_comes_back_as_it_was() -> None:
    tree = {
        "state": {
            0: {"step": torch.tensor(3.0), "exp_avg": torch.randn(2, 3)},
            1: {"bytes": torch.arange(4, dtype=torch.uint8)},
        },
        "param_groups": [{"lr": 1e-3, "betas": (0.9, 0.99), "params": [0, 1], "foreach": None, "name": "all"}],
    }
    tensors, skeleton = flatten(tree)
    back = unflatten(tensors, json.loads(json.dumps(skeleton)))
    assert back["param_groups"] == tree["param_groups"]
    assert back["state"].keys() == {0, 1}
    for index, entries in tree["state"].items():
        for name, tensor in entries.items():
            assert torch.equal(back["state"][index][name], tensor)
            assert back["state"][index][name].dtype == tensor.dtype
