# TensorFlow Serving with the model and its configuration in it. `make image`, `make image-gpu`.
#
#   docker build --file docker/serving.Dockerfile --tag fashion-serving .
#
# VARIANT=-gpu takes the GPU image; BASE_IMAGE any other that has bash and tensorflow_model_server.
ARG TF_SERVING_VERSION=2.21.0
ARG VARIANT=
ARG BASE_IMAGE=tensorflow/serving:${TF_SERVING_VERSION}${VARIANT}
FROM ${BASE_IMAGE}

LABEL org.opencontainers.image.title="fashion-serving" \
      org.opencontainers.image.description="Fashion-MNIST classifier on TensorFlow Serving: gRPC 8500, REST 8501" \
      org.opencontainers.image.licenses="Apache-2.0"

ENV MODEL_NAME=fashion_mnist MODEL_BASE_PATH=/models
COPY --chmod=0755 docker/entrypoint.sh docker/healthcheck.sh /usr/local/bin/
COPY serving/config/ /config/
# What changes most comes last.
COPY models/fashion_mnist/ /models/fashion_mnist/

USER 1000:1000
EXPOSE 8500 8501
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=3 CMD ["/usr/local/bin/healthcheck.sh"]
ENTRYPOINT ["/usr/local/bin/entrypoint.sh"]
CMD ["--model_config_file=/config/models.config", \
     "--model_config_file_poll_wait_seconds=3", \
     "--allow_version_labels_for_unavailable_models=true", \
     "--enable_batching=true", \
     "--batching_parameters_file=/config/batching.config", \
     "--monitoring_config_file=/config/monitoring.config"]
