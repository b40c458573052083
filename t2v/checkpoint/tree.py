"""Nested optimizer state as flat tensors and JSON, so that it is saved without pickle."""

from typing import Any

import torch
from torch import Tensor


def flatten(tree: Any) -> tuple[dict[str, Tensor], Any]:
    """Split nested dicts, lists and tuples into tensors by number and a JSON-able skeleton that refers to them."""
    tensors: dict[str, Tensor] = {}

    def visit(node: Any) -> Any:
        if isinstance(node, Tensor):
            name = str(len(tensors))
            tensors[name] = node.detach().cpu().clone(memory_format=torch.contiguous_format)
            return {"tensor": name}
        if isinstance(node, dict):
            return {"dict": [[key, visit(value)] for key, value in node.items()]}
        if isinstance(node, (list, tuple)):
            return {type(node).__name__: [visit(value) for value in node]}
        if node is None or isinstance(node, (bool, int, float, str)):
            return {"value": node}
        raise TypeError(f"cannot save a {type(node).__name__}")

    return tensors, visit(tree)


def unflatten(tensors: dict[str, Tensor], skeleton: Any) -> Any:
    """The tree that flatten took apart."""
    ((kind, content),) = skeleton.items()
    if kind == "tensor":
        return tensors[content]
    if kind == "dict":
        return {key: unflatten(tensors, value) for key, value in content}
    if kind in ("list", "tuple"):
        values = [unflatten(tensors, value) for value in content]
        return values if kind == "list" else tuple(values)
    return content
