# One image for all processes of datafab; docker-compose.yml has their commands.
FROM python:3.11.14-slim-bookworm AS build
RUN pip install --no-cache-dir uv==0.13.8
ENV UV_COMPILE_BYTECODE=1 UV_LINK_MODE=copy UV_PYTHON_DOWNLOADS=never UV_PROJECT_ENVIRONMENT=/opt/datafab
WORKDIR /build
# Libraries change seldom, so they have a layer of their own.
COPY pyproject.toml uv.lock ./
RUN uv sync --locked --no-dev --no-install-project
COPY README.md LICENSE celeryconfig.py ./
COPY datafab datafab
COPY workers workers
COPY webhook webhook
RUN uv sync --locked --no-dev --no-editable

FROM python:3.11.14-slim-bookworm
# New volumes inherit the owner of these folders.
RUN groupadd --gid 10001 datafab \
 && useradd --uid 10001 --gid datafab --no-create-home --home-dir /data --shell /usr/sbin/nologin datafab \
 && install --directory --owner datafab --group datafab --mode 0750 /data /scratch
COPY --from=build /opt/datafab /opt/datafab
ENV PATH=/opt/datafab/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    DATAFAB_HOME=/data \
    TMPDIR=/scratch
USER 10001:10001
WORKDIR /data
EXPOSE 8800 5555
CMD ["datafab", "--help"]
