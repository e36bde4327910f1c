#!/usr/bin/env bash
# Runs a compiler; fails if ptxas reports what makes a kernel slow without making it wrong: spilled
# registers, or products of wgmma one at a time and the like (its notes C75xx). What -Xptxas -v
# says besides is left out. Compilers that are not nvcc pass through.
set -uo pipefail

log=$(mktemp) || exit 1
trap 'rm -f "$log"' EXIT
"$@" >"$log" 2>&1
status=$?

awk '/^ptxas info +: ([0-9]+ bytes gmem|Compiling entry function|Function properties for)/ { next }
     /^ptxas info +: (Used [0-9]+ registers|Compile time)/ { next }
     /^ +[0-9]+ bytes stack frame, [0-9]+ bytes spill stores/ { next }
     { print }' "$log" >&2
[[ $status -eq 0 ]] || exit "$status"

slow=$(awk '/^ptxas info +: Compiling entry function/ { target = " on " $NF }
            /^ptxas info +: Function properties for/ { kernel = $NF }
            /[1-9][0-9]* bytes spill stores/ { print "  " kernel target ":" $0 }
            /^ptxas.*\(C75[0-9][0-9]\)/ { print "  " $0 }' "$log")
[[ -n $slow ]] || exit 0

# Left there, make would take the object for a good one the next time.
while [[ $# -gt 1 ]]; do
  [[ $1 == -o ]] && rm -f "$2"
  shift
done
printf 'required kernels without spills and notes C75xx of ptxas, got\n%s\n' "$slow" >&2
exit 1
