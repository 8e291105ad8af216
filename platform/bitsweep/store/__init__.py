"""The result database: the truth of what was measured. SQLAlchemy lives here and nowhere else."""
