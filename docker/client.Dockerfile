# The client, without TensorFlow. `make image-client`.
#
#   docker run --rm --network host --volume "$PWD/photos:/photos:ro" fashion-client predict /photos/*.png
ARG PYTHON_IMAGE=python:3.11-slim-bookworm
FROM ${PYTHON_IMAGE} AS dependencies
RUN python3 -m venv /opt/venv
COPY requirements/client.txt /src/requirements.txt
# numpy's own tests and its Fortran compiler driver are of no use here.
RUN /opt/venv/bin/pip install --no-cache-dir --disable-pip-version-check --require-hashes -r /src/requirements.txt \
 && find /opt/venv/lib/python3.11/site-packages/numpy -depth -type d '(' -name tests -o -name f2py ')' -exec rm -rf {} + \
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

FROM ${PYTHON_IMAGE}
LABEL org.opencontainers.image.title="fashion-client" \
      org.opencontainers.image.description="Asks a Fashion-MNIST model server for class names, without TensorFlow" \
      org.opencontainers.image.licenses="Apache-2.0"
ENV PATH=/opt/fashion/bin:/opt/venv/bin:$PATH PYTHONPATH=/opt/fashion PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
COPY --from=dependencies /opt/venv /opt/venv
COPY --from=package /opt/fashion /opt/fashion
USER 1000:1000
ENTRYPOINT ["fashion"]
CMD ["--help"]
