"""How sharp a place is, for people and for programs."""
