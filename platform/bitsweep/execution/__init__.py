"""Running trials: the conductor decides, an executor runs, the recorder writes. Ray lives here."""
