"""A BERT reading one text without padding: what the default text encoder is, without the weight of a library.

transformers computes the same to the last bit, but its import takes several times as long as the text; whatever is
not plainly this network is left to it.
"""

from pathlib import Path
from typing import Any, cast

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn.functional import gelu, scaled_dot_product_attention

# What a config.json may leave out, and what it must then mean. Another value there asks for another network.
PLAIN = {
    "model_type": "bert",
    "hidden_act": "gelu",
    "position_embedding_type": "absolute",
    "is_decoder": False,
    "quantization_config": None,
}


class Bert(nn.Module):
    """Devlin et al. 2019. The names of its parts are those of the files.

    config: the fields of a config.json
    """

    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__()
        self.dim: int = config["hidden_size"]
        self.vocab_size: int = config["vocab_size"]
        self.embeddings = nn.ModuleDict(
            {
                "word_embeddings": _Table(self.vocab_size, self.dim),
                "position_embeddings": _Table(config["max_position_embeddings"], self.dim),
                "token_type_embeddings": _Table(config["type_vocab_size"], self.dim),
                "LayerNorm": nn.LayerNorm(self.dim, eps=config["layer_norm_eps"]),
            }
        )
        layers = [_Layer(config) for _ in range(config["num_hidden_layers"])]
        self.encoder = nn.ModuleDict({"layer": nn.ModuleList(layers)})

    def forward(self, input_ids: Tensor) -> Tensor:
        """Token ids b n, none of them padding, to the last hidden states, b n d."""
        part = self.embeddings
        positions = torch.arange(input_ids.shape[1], device=input_ids.device)
        x = part["word_embeddings"](input_ids) + part["token_type_embeddings"](torch.zeros_like(input_ids))
        x = part["LayerNorm"](x + part["position_embeddings"](positions))
        for layer in cast(nn.ModuleList, self.encoder["layer"]):
            x = layer(x)
        return x


class _Table(nn.Module):
    """An nn.Embedding that draws no weights: on the meta device torch would import its compiler for it, for 2 s."""

    def __init__(self, num_rows: int, dim: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(num_rows, dim))

    def forward(self, rows: Tensor) -> Tensor:
        return self.weight[rows]


class _Layer(nn.Module):
    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__()
        dim, wide, eps = config["hidden_size"], config["intermediate_size"], config["layer_norm_eps"]
        self.heads: int = config["num_attention_heads"]
        if dim % self.heads:
            raise ValueError(f"{self.heads} heads cannot share {dim} features")
        self.attention = nn.ModuleDict(
            {
                "self": nn.ModuleDict({name: nn.Linear(dim, dim) for name in ("query", "key", "value")}),
                "output": nn.ModuleDict({"dense": nn.Linear(dim, dim), "LayerNorm": nn.LayerNorm(dim, eps=eps)}),
            }
        )
        self.intermediate = nn.ModuleDict({"dense": nn.Linear(dim, wide)})
        self.output = nn.ModuleDict({"dense": nn.Linear(wide, dim), "LayerNorm": nn.LayerNorm(dim, eps=eps)})

    def forward(self, x: Tensor) -> Tensor:
        """b n d to b n d."""
        read, out = (cast(nn.ModuleDict, self.attention[name]) for name in ("self", "output"))
        by_head = (*x.shape[:2], self.heads, -1)
        q, k, v = (read[name](x).view(by_head).transpose(1, 2) for name in ("query", "key", "value"))
        seen = scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(x.shape)
        x = out["LayerNorm"](out["dense"](seen) + x)
        return self.output["LayerNorm"](self.output["dense"](gelu(self.intermediate["dense"](x))) + x)


def load_bert(weights: Path, config: dict[str, Any]) -> Bert | None:
    """The network of a file, float32 on the CPU; None where the file or its config.json asks for anything else."""
    if any(config.get(name, plain) != plain for name, plain in PLAIN.items()):
        return None
    try:
        with torch.device("meta"):  # no fresh weights are drawn, only to be replaced
            model = Bert(config)
        expected = {name: tensor.shape for name, tensor in model.state_dict().items()}
        # A model that was trained for a task keeps the encoder beside its head.
        found = {name.removeprefix("bert."): tensor for name, tensor in load_file(weights).items()}
        kept = {name: found[name].float() for name in expected}
    # A field or a tensor is missing, or of a wrong kind: transformers may know it, or has the words for what is wrong.
    except (LookupError, TypeError, ValueError, ArithmeticError, RuntimeError, OSError, SafetensorError):
        return None
    if any(kept[name].shape != shape for name, shape in expected.items()):
        return None
    model.load_state_dict(kept, assign=True)
    return model
