# attnstore in an image, for a CPU:
#   docker build --tag attnstore .
# and for NVIDIA's GPUs, with PyPI's torch, which brings CUDA:
#   docker build --tag attnstore:cuda --build-arg BASE=nvidia/cuda:12.8.1-base-ubuntu24.04 --build-arg TORCH=https://pypi.org/simple .
ARG BASE=debian:bookworm-slim

# A compiler and Python's headers stay: attention's kernels are compiled for the processor that they meet.
FROM ${BASE} AS base
RUN apt-get update \
    && apt-get install --yes --no-install-recommends ca-certificates g++ python3-dev python3-venv \
    && rm -rf /var/lib/apt/lists/*

FROM base AS built
ARG TORCH=https://download.pytorch.org/whl/cpu
WORKDIR /src
RUN python3 -m venv /opt/attnstore
# torch alone, since it is most of the image and seldom another one.
COPY constraints.txt ./
RUN /opt/attnstore/bin/pip install --no-cache-dir --constraint constraints.txt --extra-index-url ${TORCH} torch
COPY . ./
RUN /opt/attnstore/bin/pip install --no-cache-dir --constraint constraints.txt '.[buckets,excel,finetune,remote,words]'

FROM base
COPY --from=built /opt/attnstore /opt/attnstore
# What is fetched and compiled goes below /cache: mount something there to keep it.
RUN useradd --uid 10001 --create-home attnstore \
    && install --directory --owner=attnstore --group=attnstore /cache /work
ENV PATH=/opt/attnstore/bin:/usr/local/bin:/usr/bin:/bin
ENV ATTNSTORE_CACHE=/cache/attnstore HF_HOME=/cache/huggingface TRITON_CACHE_DIR=/cache/triton
USER 10001:10001
WORKDIR /work
# A list, no shell: signals reach attnstore itself.
ENTRYPOINT ["attnstore"]
CMD ["--help"]
