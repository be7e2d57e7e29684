# The environment of the lock, for Docker, Kubernetes and, through Apptainer, for clusters.
#
#   make image                     lmstages:latest in docker and lmstages.sif from it; then: snakemake --sdm apptainer ...
#   make image PUSH=registry/name  also pushes it where a Kubernetes cluster finds it (profiles/kubernetes)
#   docker build -t lmstages:cpu --build-arg PIP_EXTRA_INDEX_URL=... .     torch from an index of CPU builds: far smaller
#
# On x86-64 the package index's own torch is the CUDA build.
#
# A CUDA build of torch brings its own libraries, so that the host needs its driver alone (docker run --gpus all,
# apptainer exec --nv); a CPU build serves every other machine.
FROM python:3.11-slim

ARG PIP_EXTRA_INDEX_URL=""
ENV PIP_NO_CACHE_DIR=1 PYTHONDONTWRITEBYTECODE=1 NUMBA_CACHE_DIR=/tmp/numba MPLCONFIGDIR=/tmp/matplotlib

WORKDIR /opt/lmstages
COPY requirements.lock ./
RUN pip install --requirement requirements.lock
COPY pyproject.toml setup.py README.md LICENSE Snakefile config.yaml ./
COPY lmstages lmstages
COPY workflow workflow
COPY runs runs
COPY profiles profiles
COPY docs/config.schema.json docs/
RUN pip install --no-deps --no-build-isolation .

WORKDIR /work
ENTRYPOINT []
CMD ["lmstages", "--help"]
