"""Linear layers fused with their bias and gelu compute the same function as one product."""

import pytest
import torch
from torch import nn
from transformers.activations import ACT2FN

from attnstore.engine.devices import fast_bfloat16
from attnstore.engine.paths.linears import FusedLinear, fuse

pytestmark = pytest.mark.skipif(
    not fast_bfloat16(torch.device("cpu")), reason="this processor does not multiply bfloat16"
)

#: A bfloat16 has 8 significant bits, so rounding changes a value at most by this share of it.
ROUNDING = 2.0**-8


class FeedForward(nn.Module):
    """BERT's BertIntermediate, with its module names: gelu of a linear layer."""

    def __init__(self, activation, bias=True):
        super().__init__()
        self.dense = nn.Linear(48, 80, bias=bias, dtype=torch.bfloat16)
        self.intermediate_act_fn = ACT2FN[activation]

    def forward(self, states):
        return self.intermediate_act_fn(self.dense(states))


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("activation", ["gelu", "gelu_new", "gelu_pytorch_tanh", "relu", "silu"])
@pytest.mark.parametrize("shape", [(1, 7, 48), (1, 1, 48), (300, 48)])
def test_the_fused_layer_is_the_float64_function_rounded_once(activation, bias, shape):
    """xWᵀ + b and the activation in float64, within half a unit in the last place of bfloat16 plus the error of float32
    additions. Activations that are not fused are applied afterwards, to the rounded product.
    """
    torch.manual_seed(0)
    layer = FeedForward(activation, bias)
    states = torch.randn(shape, dtype=torch.bfloat16)
    with torch.inference_mode():
        exact = layer.dense.weight.double()
        product = states.double() @ exact.T
        if bias:
            product = product + layer.dense.bias.double()
        if not activation.startswith("gelu"):
            product = product.bfloat16().double()
        expected = ACT2FN[activation](product)
        fuse(layer)
        found = layer(states)
    assert isinstance(layer.dense, FusedLinear)
    assert isinstance(layer.intermediate_act_fn, nn.Identity) == activation.startswith("gelu")
    assert found.dtype == torch.bfloat16
    # The product before relu and silu may be rounded the other way if it is near the middle of two bfloat16s.
    share = ROUNDING if activation.startswith("gelu") else 3 * ROUNDING
    torch.testing.assert_close(found.double(), expected, rtol=1.01 * share, atol=2e-5)


def test_only_plain_linear_layers_are_replaced_and_all_are_restored():
    """A subclass may compute something else. `restore` puts back the same module objects, with unchanged parameters."""

    class Other(nn.Linear):
        """A subclass that computes something else than its parent."""

        def forward(self, states):
            return -super().forward(states)

    model = nn.Sequential(
        FeedForward("gelu"), nn.Linear(80, 48, dtype=torch.bfloat16), Other(48, 48, dtype=torch.bfloat16)
    )
    before = dict(model.named_modules())
    names = list(model.state_dict())
    restore = fuse(model)
    assert [type(m) for m in model] == [FeedForward, FusedLinear, Other]
    assert model[1].weight is before["1"].weight
    assert (model[1].in_features, model[1].out_features) == (80, 48)
    assert list(model.state_dict()) == names
    restore()
    assert dict(model.named_modules()) == before
