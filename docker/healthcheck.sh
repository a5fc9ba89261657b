#!/bin/bash
# Succeeds when a version of the model is AVAILABLE. Bash alone: the official image has no HTTP client.
set -eu
exec 3<>/dev/tcp/127.0.0.1/8501
printf 'GET /v1/models/%s HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n' "${MODEL_NAME}" >&3
while IFS= read -r -t 3 line <&3; do
  [[ $line == *'"state": "AVAILABLE"'* ]] && exit 0
done
exit 1
