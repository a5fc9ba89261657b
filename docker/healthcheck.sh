#!/bin/bash
# Succeeds when a version of the model is AVAILABLE. Bash alone: the official image has no HTTP client. The embedded server
# is asked by /readyz, which needs no token, and over TLS by the Python that it has.
set -eu
# A port that speaks TLS may close before all is written.
trap '' PIPE
ask() {
  exec 3<>/dev/tcp/127.0.0.1/8501
  printf 'GET %s HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n' "$1" >&3
  while IFS= read -r -t 3 line <&3; do
    [[ $line == *"$2"* ]] && return
  done
  return 1
}
ask "/v1/models/${MODEL_NAME}" '"state": "AVAILABLE"' && exit
ask /readyz '"ready": true' && exit
python3 -c '
import ssl, urllib.request
context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
urllib.request.urlopen("https://127.0.0.1:8501/readyz", timeout=2, context=context)' 2>/dev/null
