"""How the loss looks around a point: how sharp, in several measures, and along which directions."""
