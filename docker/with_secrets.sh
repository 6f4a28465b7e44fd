#!/bin/sh
# Runs a command with its secrets in the environment: for every NAME below, a variable NAME_FILE
# names the file that NAME is read from, so that no secret stands in a compose file or an image.
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
    value=$(cat "$file")
    export "$name=$value"
    unset "${name}_FILE"
  fi
done
exec "$@"
