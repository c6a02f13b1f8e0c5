"""The lecture's claims, each with an experiment on real data that can come out against it."""
