"""Computes a linear layer with its bias, and the gelu that may follow it, as one oneDNN product.

On a CPU, torch adds the bias to a bfloat16 product in a second pass over memory, and gelu in a third. oneDNN does both
while a tile of the product is still in registers, through the operator that torch's own compiler uses. torch does not
promise to keep that operator, and which activation follows a layer is known only from the module names of each family,
so a caller of `fuse` must compare the model's logits before and after.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from transformers.activations import GELUActivation, GELUTanh, NewGELUActivation

from attnstore.engine.families import ACTIVATIONS

#: oneDNN's algorithm for each activation that it can apply to a product.
_GELU: dict[type, str] = {GELUActivation: "none", NewGELUActivation: "tanh", GELUTanh: "tanh"}


class FusedLinear(nn.Linear):
    """xWᵀ + b, followed by gelu if there is an `algorithm` ("none": with erf; "tanh").

    It shares weight and bias with the layer that it replaces. The operator has no gradient, so when gradients are
    recorded, torch's own functions are used.
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
    """Replace every plain linear layer in `model`. Returns a function that puts the original layers back.

    Call it for bfloat16 on a CPU that multiplies bfloat16 in hardware. The new layers share the parameters of the
    originals. The forward pass raises AttributeError if torch lacks the operator, and TypeError or RuntimeError if the
    operator's signature differs.
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
