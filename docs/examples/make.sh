#!/usr/bin/env bash
# Runs the quickstart sweep and writes its tables, figures and report here: `make examples`.
set -euo pipefail
cd "$(dirname "$0")/../.."
export OMP_NUM_THREADS=1
bitsweep=.venv/bin/bitsweep
out=docs/examples
"$bitsweep" run sweeps/quickstart.toml --mlflow none
"$bitsweep" table quickstart > "$out/table.txt"
"$bitsweep" table quickstart --format markdown --against lsq > "$out/table.md"
"$bitsweep" table quickstart --format latex > "$out/table.tex"
"$bitsweep" table quickstart --rows methods --columns bits --format markdown > "$out/grid.md"
for kind in pareto size bits curves layers importance slices parallel; do
  "$bitsweep" plot quickstart --kind "$kind" --output "$out/$kind.pdf"
done
"$bitsweep" report quickstart --output "$out/report.html"
