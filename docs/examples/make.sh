#!/usr/bin/env bash
# Writes the tables, figures and report of the quickstart sweep here, with the commands that made
# them: `make examples`. Runs the sweep first, unless BITSWEEP_STORE names a store that has it.
# `docs/examples/make.sh FOLDER SWEEP ARM` writes another sweep of that store elsewhere, its arms
# compared with ARM.
set -euo pipefail
cd "$(dirname "$0")/../.."
export OMP_NUM_THREADS=1
bin=$PWD/.venv/bin
out=${1:-docs/examples}
sweep=${2:-quickstart}
arm=${3:-lsq}
mkdir -p "$out"
if [ -z "${BITSWEEP_STORE:-}" ]; then
  "$bin/bitsweep" run sweeps/quickstart.toml --mlflow none
fi
page=$out/README.md
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

say() { printf '%s\n' "$@" >> "$page"; }

command_line() { # how a reader would type it
  local word line="bitsweep"
  for word in "$@"; do
    case $word in *[!A-Za-z0-9_./,=-]*) word="'$word'" ;; esac
    line="$line $word"
  done
  printf '%s' "${line//$out\//}"
}

write() { # write FILE ARGUMENT...: what a command prints becomes a file
  local file=$1
  shift
  "$bin/bitsweep" "$@" > "$out/$file"
  say "$(command_line "$@") > $file"
}

draw() { # draw KIND: as pdf for papers and as png for this page; nothing where the sweep has none
  local kind=$1 form
  for form in pdf png; do
    if ! "$bin/bitsweep" plot "$sweep" --kind "$kind" --output "$out/$kind.$form" 2> "$scratch/why"; then
      echo "no figure of $kind: $(cat "$scratch/why")" >&2
      grep -q '^error: ' "$scratch/why" && return 0 # the sweep has nothing of this kind
      return 1
    fi > /dev/null
  done
  drawn+=("$kind")
}

: > "$page"
say "# What \`make examples\` writes" "" \
  "Made by [make.sh](make.sh) from the sweep \`$sweep\`; do not edit it by hand." "" '```sh'
write table.txt table "$sweep"
write table.md table "$sweep" --format markdown
write table.tex table "$sweep" --format latex
write table.csv table "$sweep" --format csv
write against.md table "$sweep" --format markdown --against "$arm"
write grid.md table "$sweep" --rows methods --columns bits --format markdown
write grid.tex table "$sweep" --rows methods --columns bits --format latex
drawn=()
for kind in pareto size bits curves layers epochs choices costs trade importance slices parallel contour; do
  draw "$kind"
done
for kind in "${drawn[@]}"; do
  say "$(command_line plot "$sweep" --kind "$kind" --output "$kind.pdf")"
done
"$bin/bitsweep" report "$sweep" --output "$out/report.html" > /dev/null
say "bitsweep report $sweep --output report.html" '```' "" "[The report](report.html) is one page." ""

if command -v pdflatex pdftoppm > /dev/null; then
  {
    printf '%s\n' '\documentclass{article}' '\usepackage[T1]{fontenc}' '\usepackage{lmodern}'
    printf '%s\n' '\usepackage{booktabs,siunitx}' '\pagestyle{empty}' '\begin{document}'
    printf '\\input{table.tex}\n\\input{grid.tex}\n\\end{document}\n'
  } > "$scratch/page.tex"
  cp "$out/table.tex" "$out/grid.tex" "$scratch"
  (cd "$scratch" && pdflatex -interaction=nonstopmode -halt-on-error page.tex > /dev/null)
  pdftoppm -r 100 -png -singlefile "$scratch/page.pdf" "$out/table"
  say "## [table.tex](table.tex) and [grid.tex](grid.tex), compiled" "" "![The tables](table.png)" ""
fi
say "## [grid.md](grid.md)" ""
cat "$out/grid.md" >> "$page"
say "" "## Figures" ""
for kind in "${drawn[@]}"; do
  say "### [$kind]($kind.pdf)" "" "![$kind]($kind.png)" ""
done
echo "written to $out"
