"""The optimizer's steps: what they would gain from here, what they remember, what rounding leaves of them."""
