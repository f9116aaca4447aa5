#!/usr/bin/env bash
# Software:  npm docker-parse-image 3.0.1, parse-docker-image-name 3.0.0; PyPI docker-image-py 0.2.0:
#            readers of the names of images.
# Input:     names as registries on a host of one's own, pinned tags and hosts in capitals have them.
# One would guess: the three agree on what is the registry, the repository, the tag and the digest.
# Seen:      docker-parse-image takes localhost/web for a namespace of the default registry, asks
#            localhost:5000 for library/web, which nobody has pushed there, and makes the digest a
#            part of the tag. HOST/web is a registry to docker-image-py and a repository to
#            parse-docker-image-name.
#            Output: "localhost:5000/web: docker-parse-image localhost:5000/library/web:latest"
# Exit:      0 while this holds; 1 and the difference otherwise.
set -euo pipefail

dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check docker-image-py==0.2.0
npm init -y >/dev/null
npm install --silent --no-audit --no-fund --save-exact \
  docker-parse-image@3.0.1 parse-docker-image-name@3.0.0

digest=sha256:$(printf 'a%.0s' {1..64})
names=(localhost/web:1 localhost:5000/web "web:1@$digest" HOST/web:1)
cat >read.cjs <<'JS'
const one = require('docker-parse-image');
const other = require('parse-docker-image-name');
const parse = other.default ?? other;
for (const name of process.argv.slice(2)) {
  console.log(`${name}: docker-parse-image ${one(name).fullname}, tag ${one(name).tag}`);
  const { domain = '-', path, tag = '-' } = parse(name);
  console.log(`${name}: parse-docker-image-name ${domain} ${path}, tag ${tag}`);
}
JS
cat >read.py <<'PY'
import sys

from docker_image import reference

for name in sys.argv[1:]:
    found = reference.Reference.parse_normalized_named(name)
    host, path = found.split_hostname()
    print(f"{name}: docker-image-py {host} {path}, tag {found['tag'] or '-'}")
PY
{
  node read.cjs "${names[@]}"
  venv/bin/python read.py "${names[@]}"
} | sed "s/$digest/DIGEST/g" >seen

cat >expected <<'TXT'
localhost/web:1: docker-parse-image localhost/web:1, tag 1
localhost/web:1: parse-docker-image-name localhost web, tag 1
localhost:5000/web: docker-parse-image localhost:5000/library/web:latest, tag null
localhost:5000/web: parse-docker-image-name localhost:5000 web, tag -
web:1@DIGEST: docker-parse-image library/web:1@DIGEST, tag 1@DIGEST
web:1@DIGEST: parse-docker-image-name - web, tag 1
HOST/web:1: docker-parse-image HOST/web:1, tag 1
HOST/web:1: parse-docker-image-name - HOST/web, tag 1
localhost/web:1: docker-image-py localhost web, tag 1
localhost:5000/web: docker-image-py localhost:5000 web, tag -
web:1@DIGEST: docker-image-py docker.io library/web, tag 1
HOST/web:1: docker-image-py HOST web, tag 1
TXT
if ! diff -u expected seen; then
  echo "changed: names of images are read in another way" >&2
  exit 1
fi
cat seen
echo "as recorded: a registry on this host is asked for library/web, and a digest is in the tag"
