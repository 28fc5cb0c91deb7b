# landslip on processors: docker build -t landslip . && docker run --rm -v "$PWD:/data" landslip check site.toml
FROM python:3.11-slim

# libexpat is what the wheels of GDAL need of the system.
RUN apt-get update \
    && apt-get install -y --no-install-recommends libexpat1=2.* \
    && rm -rf /var/lib/apt/lists/*

WORKDIR /source
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY landslip landslip
# PyTorch's CPU build first: pip's own brings several gigabytes of CUDA libraries.
RUN pip install --no-cache-dir "$(grep '^torch==' constraints.txt)" --index-url https://download.pytorch.org/whl/cpu \
    && pip install --no-cache-dir -c constraints.txt ".[hdf5,serve,fast,int8,export]"

# Files are written as this user: run with --user "$(id -u):$(id -g)" where yours is another.
RUN useradd --create-home landslip
USER landslip
WORKDIR /data
ENTRYPOINT ["landslip"]
CMD ["--help"]
