"""PyTorch's operations on lists of tensors, `torch._foreach_*`: one call for all parameters.

They are what every optimizer of `torch.optim` is made of, though their names begin with an underscore: this is the
one place that reaches for them. A name that ends with an underscore writes on its first argument.
"""

from collections.abc import Callable
from typing import Any

import torch


def _operation(name: str) -> Callable[..., Any]:
    return vars(torch)[f"_foreach_{name}"]


add = _operation("add")
add_ = _operation("add_")
addcdiv_ = _operation("addcdiv_")
addcmul = _operation("addcmul")
addcmul_ = _operation("addcmul_")
clamp_max = _operation("clamp_max")
clamp_min_ = _operation("clamp_min_")
div = _operation("div")
div_ = _operation("div_")
lerp_ = _operation("lerp_")
maximum_ = _operation("maximum_")
mul = _operation("mul")
mul_ = _operation("mul_")
neg = _operation("neg")
norm = _operation("norm")
reciprocal_ = _operation("reciprocal_")
sqrt = _operation("sqrt")
