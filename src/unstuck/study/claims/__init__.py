"""The claims, one a module: what is run, how it is tested, how it is drawn."""
