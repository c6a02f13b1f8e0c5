"""Eigenvalues of a Hessian that is never formed: Lanczos, its certificate, density and trace."""
