#!/bin/sh
# Says what the change would do: plan.md for the comment, plan.json for programs.
# Needs duffy-broker and git on PATH; no credentials and no broker.
#
#   ci/plan.sh [REVISION]   default: where the branch left the default branch
#
# Fails if there are mistakes, or if a policy denies the change.
set -eu
cd "$(dirname "$0")/.."

duffy-broker fmt --check .
duffy-broker validate

set -- ${1:+--base "$1"}
code=0
duffy-broker plan "$@" --format markdown > plan.md || code=$?
case $code in
0 | 2 | 3) ;;
*) exit "$code" ;;
esac
duffy-broker plan "$@" --format json > plan.json || test $? -eq "$code"
duffy-broker plan "$@" || true # for the log

if grep -q '"denied": true' plan.json; then
  echo "a policy denies this change: see the plan" >&2
  exit 3
fi
