# codechunk and git, nothing else. Build: docker build -t OWNER/codechunk:TAG .
# Run: docker run --rm -v codechunk-data:/data -e CODECHUNK_GEMINI_API_KEY OWNER/codechunk:TAG index <url> --no-wait

FROM python:3.12-slim AS build
WORKDIR /src
# The pins first: as long as they stay, their layer is not built again.
COPY requirements.lock requirements-build.lock ./
RUN python -m venv /opt/codechunk \
 && /opt/codechunk/bin/pip install --no-cache-dir --no-input --disable-pip-version-check --no-deps -r requirements.lock \
 && python -m pip install --no-cache-dir --no-input --disable-pip-version-check -r requirements-build.lock
COPY pyproject.toml README.md LICENSE ./
COPY codechunk codechunk
# The tools that build it stay in this stage.
RUN python -m pip wheel --no-cache-dir --no-deps --no-build-isolation --wheel-dir /wheels . \
 && /opt/codechunk/bin/pip install --no-cache-dir --no-deps --no-index /wheels/*.whl

FROM python:3.12-slim
# 10001: a fixed number, so that a volume can be given to it; deploy/kubernetes names it too.
RUN apt-get update \
 && apt-get install --yes --no-install-recommends ca-certificates git openssh-client \
 && rm -rf /var/lib/apt/lists/* \
 && groupadd --gid 10001 codechunk \
 && useradd --uid 10001 --gid codechunk --home-dir /data --no-create-home --shell /usr/sbin/nologin codechunk \
 && install --directory --owner codechunk --group codechunk --mode 0700 /data
COPY --from=build /opt/codechunk /opt/codechunk
COPY configs/prod.yaml /etc/codechunk/codechunk.yaml
# The configuration is named, so that none is taken from the folder it happens to run in.
ENV PATH=/opt/codechunk/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    CODECHUNK_CONFIG=/etc/codechunk/codechunk.yaml \
    CODECHUNK_DATA_DIR=/data
VOLUME /data
USER 10001:10001
# Commands, not a server: how each ended is its exit code.
HEALTHCHECK NONE
# The exec form: SIGTERM reaches codechunk itself, which ends its step and loses nothing.
ENTRYPOINT ["codechunk"]
CMD ["--help"]
