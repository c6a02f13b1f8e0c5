"""Small trainings on real data that ships with the package, each stuck in its own way."""
