"""Into the model: activations and gradients layer by layer, what is not trained, where NaN arises."""
