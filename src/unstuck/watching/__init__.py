"""A run as it goes on: what is recorded, where, when its loss stands still, and what the live graph says then."""
