#!/bin/sh
# Makes the broker do what was merged, and waits until it is done. Fails if the
# broker refuses it, or if a rollout pauses.
# Needs duffy-broker on PATH, and DUFFY_BROKER_URL, DUFFY_BROKER_AUTH_NAME and
# DUFFY_BROKER_AUTH_KEY of an admin. The broker reads its pools from this
# repository: serve --pools 'git::https://.../pools.git//pools.hcl?ref=main'.
set -eu
cd "$(dirname "$0")/.."

code=0
duffy-broker plan --server --format json > applied.json || code=$?
case $code in
0) echo "the broker runs with this already" ;;
2 | 3)
  # Just this change is confirmed. If the branch has moved on meanwhile, the broker
  # refuses, and the next pipeline does it.
  id=$(sed -n 's/^ *"id": "\([0-9a-f]*\)".*/\1/p' applied.json | head -n 1)
  duffy-broker plan --server || true # for the log
  duffy-broker reload --confirm "$id" --wait
  ;;
*) exit "$code" ;;
esac
