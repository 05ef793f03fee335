#!/bin/sh
# Installs the producer into /opt/peekaping-producer. These are all steps of the image; `make image` runs them too.
# Needs root, and a Debian with python3 and its venv. Usage: build.sh SOURCE, which may be read-only.
set -eu
umask 022
source=$1
target=/opt/peekaping-producer
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
tools=$work/tools/bin

pip_in() { # ENVIRONMENT ARGUMENT...
    environment=$1
    shift
    "$tools/pip" --python "$environment/bin/python" --quiet --no-cache-dir --disable-pip-version-check "$@"
}

# The tools of the build, by hash. They do not get into the image.
python3 -m venv "$work/tools"
pip_in "$work/tools" install --no-deps --require-hashes --only-binary :all: \
    -r "$source/deploy/docker/build-requirements.txt"

# The dependencies, by hash from uv.lock: all databases and traces, no demo.
"$tools/uv" export --quiet --frozen --no-cache --project "$source" --no-dev --no-emit-project \
    --all-extras --no-extra demo --format requirements-txt >"$work/requirements.txt"
python3 -m venv --without-pip "$target"
pip_in "$target" install --no-deps --require-hashes --only-binary :all: -r "$work/requirements.txt"

# The producer itself.
pip_in "$work/tools" wheel --no-deps --no-build-isolation --wheel-dir "$work" "$source"
pip_in "$target" install --no-deps --no-index "$work"/peekaping_producer-*.whl

# Peekaping's chart runs its images as this user.
groupadd --gid 10001 producer
useradd --uid 10001 --gid 10001 --no-log-init --no-create-home --home-dir /app --shell /usr/sbin/nologin producer

"$target/bin/peekaping-producer" --version
