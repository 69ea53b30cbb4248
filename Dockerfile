# The exporter as an image, with Flower in it: docs/docker.md says how to build and run it.
ARG BASE=docker.io/library/python:3.13-slim-trixie

FROM ${BASE} AS build
WORKDIR /build
# What is installed has no pip in it: that of the builder installs there.
RUN python3 -m venv builder && python3 -m venv --without-pip /opt/celery-observe
# Dependencies before the source: a change of ours does not install them anew. The secret is for an index of your own.
COPY requirements/build.txt requirements/image.txt requirements/
RUN --mount=type=secret,id=pip,target=/etc/pip.conf \
    builder/bin/pip install --no-cache-dir --require-hashes --only-binary :all: -r requirements/build.txt && \
    builder/bin/pip --python /opt/celery-observe/bin/python3 install --no-cache-dir --require-hashes --only-binary :all: \
        -r requirements/image.txt
COPY pyproject.toml README.md LICENSE ./
COPY celery_observe celery_observe
COPY alerts alerts
RUN builder/bin/pip wheel --no-cache-dir --no-deps --no-build-isolation --wheel-dir dist . && \
    builder/bin/pip --python /opt/celery-observe/bin/python3 install --no-cache-dir --no-index --no-deps dist/*.whl

FROM ${BASE}
ARG BASE
ARG VERSION=unknown
ARG REVISION=unknown
LABEL org.opencontainers.image.title="celery-observe" \
    org.opencontainers.image.description="Observability sidecar and metrics exporter for Celery" \
    org.opencontainers.image.licenses="MIT" \
    org.opencontainers.image.base.name="${BASE}" \
    org.opencontainers.image.version="${VERSION}" \
    org.opencontainers.image.revision="${REVISION}"
COPY --from=build /opt/celery-observe /opt/celery-observe
# Everything is compiled and nothing is written. Inside a container loopback reaches nobody.
ENV PATH="/opt/celery-observe/bin:${PATH}" \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    CELERY_OBSERVE_HOST=0.0.0.0
USER 65532:65532
WORKDIR /app
EXPOSE 9808
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=15s --timeout=3s --start-period=10s CMD ["celery-observe", "health"]
ENTRYPOINT ["celery-observe"]
CMD ["run"]
