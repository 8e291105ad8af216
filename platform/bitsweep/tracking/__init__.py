"""The mirror: MLflow shows what the store holds. MLflow lives here and nowhere else."""
