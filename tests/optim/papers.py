"""LARS and LAMB as their papers have them, one number after another: slow, and easy to read beside the paper."""

from math import sqrt


def norm(layer):
    return sqrt(sum(number**2 for number in layer))


class Lars:
    """You, Gitman & Ginsburg, 2017, algorithm 1: for each layer, with the global rate inside the momentum.

    The paper says nothing of a layer or a gradient that is zero; its local rate is taken as 1.
    """

    def __init__(self, lr, decay, coefficient, weight_decay):
        self.lr, self.decay = lr, decay
        self.coefficient, self.weight_decay = coefficient, weight_decay
        self.velocity = None

    def step(self, layer, gradient):
        if self.velocity is None:
            self.velocity = [0.0] * len(layer)
        rate = 1.0
        if norm(layer) > 0.0 and norm(gradient) > 0.0:
            rate = self.coefficient * norm(layer) / (norm(gradient) + self.weight_decay * norm(layer))
        for i, number in enumerate(layer):
            step = self.lr * rate * (gradient[i] + self.weight_decay * number)
            self.velocity[i] = self.decay * self.velocity[i] + step
        return [number - moved for number, moved in zip(layer, self.velocity, strict=True)]


class Lamb:
    """You et al., 2020, algorithm 2, with the identity as its function of the norm."""

    def __init__(self, lr, beta1, beta2, eps, weight_decay):
        self.lr, self.beta1, self.beta2 = lr, beta1, beta2
        self.eps, self.weight_decay = eps, weight_decay
        self.steps, self.m, self.v = 0, None, None

    def step(self, layer, gradient):
        if self.m is None:
            self.m, self.v = [0.0] * len(layer), [0.0] * len(layer)
        self.steps += 1
        update = []
        for i, g in enumerate(gradient):
            self.m[i] = self.beta1 * self.m[i] + (1 - self.beta1) * g
            self.v[i] = self.beta2 * self.v[i] + (1 - self.beta2) * g**2
            m_hat = self.m[i] / (1 - self.beta1**self.steps)
            v_hat = self.v[i] / (1 - self.beta2**self.steps)
            update.append(m_hat / (sqrt(v_hat) + self.eps) + self.weight_decay * layer[i])
        trust = 1.0
        if norm(layer) > 0.0 and norm(update) > 0.0:
            trust = norm(layer) / norm(update)
        return [number - self.lr * trust * u for number, u in zip(layer, update, strict=True)]
