"""Who proposes configurations. Optuna lives here and nowhere else."""
