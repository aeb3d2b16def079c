#!/bin/sh
# Tells the broker when EC2 announces that it takes this spot instance away. EC2 does
# so two minutes before, in the instance metadata; nothing else on the machine knows.
#
# DUFFY_URL and DUFFY_TOKEN say where the broker is and what it knows this node by.
# DUFFY_IMDS is the address of the instance metadata, DUFFY_INTERVAL the seconds
# between two looks: EC2 advises 5. It ends once the broker has taken the notice, or
# has refused it for good.
set -u

imds=${DUFFY_IMDS:-http://169.254.169.254}
interval=${DUFFY_INTERVAL:-5}

# The token is a secret: it must not show in the list of processes.
notices=$(mktemp) || exit 1
trap 'rm -f "$notices"' EXIT
trap 'exit 143' TERM INT
printf 'header = "Authorization: Bearer %s"\n' "${DUFFY_TOKEN:?}" >"$notices"

# look prints the instance action, or fails where there is none (404) or no answer.
look() {
  session=$(curl -sf --max-time 5 -X PUT -H 'X-aws-ec2-metadata-token-ttl-seconds: 60' "$imds/latest/api/token") || return 1
  curl -sf --max-time 5 -H "X-aws-ec2-metadata-token: $session" "$imds/latest/meta-data/spot/instance-action"
}

# field NAME prints a text of the flat JSON object on standard input.
field() { tr -d '\n' | sed -n 's/.*"'"$1"'"[[:space:]]*:[[:space:]]*"\([^"]*\)".*/\1/p'; }

until notice=$(look); do
  sleep "$interval"
done
action=$(printf '%s' "$notice" | field action)
at=$(printf '%s' "$notice" | field time)

body=$(printf '{"kind":"interruption","action":"%s","at":"%s"}' "$action" "$at")
while :; do
  status=$(curl -s --max-time 10 -o /dev/null -w '%{http_code}' --config "$notices" \
    -H 'Content-Type: application/json' -d "$body" "${DUFFY_URL:?}/api/v1/notices")
  case $status in
    2??) exit 0 ;;
    408 | 429) ;; # busy
    4??)
      echo "the broker does not take the notice: HTTP status $status" >&2
      exit 0
      ;;
  esac
  sleep "$interval"
done
