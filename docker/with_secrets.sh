#!/bin/sh
# Runs a command with its secrets in the environment: for every NAME below, a variable NAME_FILE
# names the file that NAME is read from, so that no secret stands in a compose file or an image.
# A secret that was left empty stops here: a server would start without a login.
set -eu
for name in \
  AWS_ACCESS_KEY_ID \
  AWS_SECRET_ACCESS_KEY \
  MLFLOW_TRACKING_PASSWORD \
  PGPASSWORD \
  PREFECT_API_AUTH_STRING \
  PREFECT_SERVER_API_AUTH_STRING
do
  file=$(printenv "${name}_FILE" || true)
  if [ -n "$file" ]; then
    if [ ! -s "$file" ]; then
      echo "$name: $file is empty or not there; fill in the secret (docker/env.example)" >&2
      exit 2
    fi
    value=$(cat "$file")
    export "$name=$value"
    unset "${name}_FILE"
  fi
done
# The webhook's address may be left empty; compose makes no file of an empty secret.
if [ -n "${CAPTIONMILL_WEBHOOK_URL_FILE:-}" ] && [ ! -s "$CAPTIONMILL_WEBHOOK_URL_FILE" ]; then
  unset CAPTIONMILL_WEBHOOK_URL_FILE
fi
exec "$@"
