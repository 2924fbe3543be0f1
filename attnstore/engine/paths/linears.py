"""A model's linear layers, each with its bias, and gelu where that follows, as one oneDNN product.

On a CPU torch adds the bias to a bfloat16 product in a second pass over memory, and gelu is a third. oneDNN does both
while a tile of the product is still in registers, through the operator that torch's own compiler uses for it. That
operator is not promised to stay as it is, and which activation follows a layer is known only by the names that
families give it: whoever calls `fuse` compares what the model says before and after.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from transformers.activations import GELUActivation, GELUTanh, NewGELUActivation

from attnstore.engine.families import ACTIVATIONS

#: oneDNN's algorithm for each of the activations that it can put behind a product.
_GELU: dict[type, str] = {GELUActivation: "none", NewGELUActivation: "tanh", GELUTanh: "tanh"}


class FusedLinear(nn.Linear):
    """xWᵀ + b, and gelu of it if there is an `algorithm` ("none": with erf; "tanh").

    Its weight and bias are those of the layer it stands for. The operator has no gradient: where one is recorded,
    torch's own are used.
    """

    def __init__(self, linear: nn.Linear, algorithm: str | None) -> None:
        super().__init__(linear.in_features, linear.out_features, bias=False, device="meta")
        self.weight, self.bias = linear.weight, linear.bias
        self.algorithm = algorithm

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - nn.Linear's name for it
        """(…, in) to (…, out), both bfloat16."""
        if torch.is_grad_enabled():
            product = nn.functional.linear(input, self.weight, self.bias)
            if self.algorithm is None:
                return product
            return nn.functional.gelu(product, approximate=self.algorithm)
        pointwise = "none" if self.algorithm is None else "gelu"
        output: Tensor = torch.ops.mkldnn._linear_pointwise(
            input, self.weight, self.bias, pointwise, [], self.algorithm
        )
        return output


def fuse(model: nn.Module) -> Callable[[], None]:
    """Exchange every plain linear layer below `model`. Returns what puts the former ones back.

    Call it for bfloat16 on a CPU that multiplies that in hardware. The exchanged layers share their parameters with
    the former ones. A torch without the operator raises AttributeError in the forward pass, one whose operator is
    another TypeError or RuntimeError.
    """
    exchanged: list[tuple[nn.Module, str, nn.Module]] = []

    def exchange(parent: nn.Module, name: str, new: nn.Module) -> None:
        exchanged.append((parent, name, parent.get_submodule(name)))
        setattr(parent, name, new)

    for parent in list(model.modules()):
        children = dict(parent.named_children())
        for name, child in children.items():
            if type(child) is not nn.Linear:  # a subclass may compute something else
                continue
            activation = ACTIVATIONS.get(name, "")
            algorithm = _GELU.get(type(children.get(activation)))
            if algorithm is not None:
                exchange(parent, activation, nn.Identity())
            exchange(parent, name, FusedLinear(child, algorithm))

    def restore() -> None:
        for parent, name, former in exchanged:
            setattr(parent, name, former)

    return restore
