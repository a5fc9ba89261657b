#!/bin/bash
# Starts the model server as the official entry point does, but in its own place: SIGTERM reaches it.
# Arguments are more flags; with --model_config_file the two MODEL_ variables do not count.
set -eu
exec tensorflow_model_server --port=8500 --rest_api_port=8501 \
  --model_name="${MODEL_NAME}" --model_base_path="${MODEL_BASE_PATH}/${MODEL_NAME}" "$@"
