# The demo in a container, on the CPU, with Debian's own Python:
#
#     docker build --tag vit . && docker run --rm vit
#
# --build-arg BACKEND=tf or ms: another framework.
FROM debian:bookworm-slim

RUN apt-get update \
    && apt-get install --yes --no-install-recommends ca-certificates libgomp1 make python3 python3-venv \
    && rm -rf /var/lib/apt/lists/*

RUN useradd --create-home vit
USER vit
WORKDIR /home/vit
COPY --chown=vit . .

ARG BACKEND=torch
ENV BACKEND=$BACKEND PIP_NO_CACHE_DIR=1
RUN make .venv
CMD ["make", "demo"]
