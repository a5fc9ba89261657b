# The embedded server without TensorFlow, on LiteRT: what serving.Dockerfile promises (ports, environment, arguments,
# paths, health), on amd64 and arm64. `make image-light`; with what `fashion score` needs, `make image-score` and
# `make image-score-ray`; with what `fashion pull` and signatures need, `make image-pull`.
ARG PYTHON_IMAGE=python:3.11-slim-bookworm
FROM ${PYTHON_IMAGE} AS dependencies
RUN python3 -m venv /opt/venv
# Which of the locked requirements: light-image ([light] and what verifies signatures), score, score-ray or pull.
ARG REQUIREMENTS=light-image
COPY requirements/${REQUIREMENTS}.txt /src/requirements.txt
# What a processor's interpreter does not need goes: LiteRT for GPUs and of compiled models, its compilers for phones,
# numpy's own tests and its drivers of compilers; and pip itself.
RUN /opt/venv/bin/pip install --no-cache-dir --disable-pip-version-check --require-hashes -r /src/requirements.txt \
 && cd /opt/venv/lib/python3.11/site-packages \
 && rm -rf ai_edge_litert/libLiteRt*.so ai_edge_litert/vendors ai_edge_litert/tools ai_edge_litert/aot \
 && find numpy -depth -type d '(' -name tests -o -name f2py -o -name distutils ')' -exec rm -rf {} + \
 && /opt/venv/bin/pip uninstall --yes --quiet setuptools pip

FROM ${PYTHON_IMAGE} AS package
COPY pyproject.toml README.md LICENSE /src/
COPY fashion_common/ /src/fashion_common/
COPY serving/ /src/serving/
COPY client/ /src/client/
COPY training/ /src/training/
COPY delivery/ /src/delivery/
COPY rollout/ /src/rollout/
COPY scoring/ /src/scoring/
# A layer of its own, so that a change here leaves the large one alone; its commands run in the environment above.
RUN python3 -m venv --without-pip /opt/venv \
 && python3 -m pip --python /opt/venv/bin/python3 install --no-cache-dir --disable-pip-version-check --no-deps \
    --target /opt/fashion /src

# Debian and Python as they are, but for pip and for what people read: manuals and translations. Licences stay.
FROM ${PYTHON_IMAGE} AS system
RUN rm -rf /usr/lib/python3/dist-packages /usr/share/python-wheels /usr/local/lib/python3.*/site-packages/* \
    /usr/local/lib/python3.*/ensurepip /usr/share/man /usr/share/info /usr/share/locale /var/cache/* /var/lib/apt/lists/* \
 && find /usr/share/doc -not -type d -not -name copyright -delete

# What is removed in a layer above an image stays in the image: this one begins anew.
FROM scratch
COPY --from=system / /
LABEL org.opencontainers.image.title="fashion-light" \
      org.opencontainers.image.description="Fashion-MNIST classifier on LiteRT: gRPC 8500, REST 8501" \
      org.opencontainers.image.licenses="Apache-2.0"

ENV PATH=/opt/fashion/bin:/opt/venv/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
    LANG=C.UTF-8 PYTHONPATH=/opt/fashion \
    PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 \
    MODEL_NAME=fashion_mnist MODEL_BASE_PATH=/models
COPY --from=dependencies /opt/venv /opt/venv
COPY --from=package /opt/fashion /opt/fashion
COPY --chmod=0755 docker/entrypoint.sh docker/healthcheck.sh docker/tensorflow_model_server /usr/local/bin/
COPY serving/config/ /config/
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
