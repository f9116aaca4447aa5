#!/usr/bin/env bash
# Software:  PyPI moto 5.2.5 (its server of S3) and boto3 1.44.8.
# Input:     an object with checksums of other bytes (SHA-256, CRC32, MD5), read with and without
#            checking; a second creation of a key under If-None-Match: *, by a put, a multipart
#            upload and a copy.
# One would guess: a double that knows checksums and preconditions refuses what S3 refuses.
# Seen:      no wrong checksum is refused, MD5 neither, and the two new ones are forgotten: a read
#            that asks for checks finds none and passes. Put and multipart refuse a second creation;
#            a copy goes over the object in silence. A test against this double says nothing of
#            damage on the way to an archive.
#            Output: "sha256: put done, read with checks done, head tells no checksum"
# Exit:      0 while this holds; 1 and the difference otherwise.
set -euo pipefail

dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check "moto[server,s3]==5.2.5" \
  boto3==1.44.8 botocore==1.44.8

cat >store.py <<'PY'
import base64
import hashlib
import logging
import zlib
import boto3
from moto.server import ThreadedMotoServer

logging.getLogger("werkzeug").disabled = True
server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
server.start()
host, port = server.get_host_and_port()
s3 = boto3.client("s3", endpoint_url=f"http://{host}:{port}", region_name="us-east-1",
                  aws_access_key_id="key", aws_secret_access_key="secret")
s3.create_bucket(Bucket="archive")

def done(call):
    try:
        return call() and "done"
    except Exception as error:
        return type(error).__name__ + (" " + error.response["Error"]["Code"]
                                       if hasattr(error, "response") else "")

def text(digest):
    return base64.b64encode(digest).decode()

other = b"other bytes"
wrong = {
    "sha256": {"ChecksumSHA256": text(hashlib.sha256(other).digest())},
    "crc32": {"ChecksumCRC32": text(zlib.crc32(other).to_bytes(4, "big"))},
    "md5": {"ContentMD5": text(hashlib.md5(other).digest())},
}
for name, checksum in wrong.items():
    put = done(lambda: s3.put_object(Bucket="archive", Key=name, Body=b"bytes", **checksum))
    read = done(lambda: s3.get_object(Bucket="archive", Key=name,
                                      ChecksumMode="ENABLED")["Body"].read())
    told = s3.head_object(Bucket="archive", Key=name, ChecksumMode="ENABLED")
    sums = [key for key in sorted(told) if key.startswith("Checksum") and key != "ChecksumType"]
    print(f"{name}: put {put}, read with checks {read}, head tells", *sums or ["no checksum"])

s3.put_object(Bucket="archive", Key="segment", Body=b"first")

def multipart():
    upload = s3.create_multipart_upload(Bucket="archive", Key="segment")["UploadId"]
    part = s3.upload_part(Bucket="archive", Key="segment", UploadId=upload, PartNumber=1, Body=b"2")
    parts = {"Parts": [{"ETag": part["ETag"], "PartNumber": 1}]}
    return s3.complete_multipart_upload(Bucket="archive", Key="segment", UploadId=upload,
                                        MultipartUpload=parts, IfNoneMatch="*")

for name, call in (
    ("put", lambda: s3.put_object(Bucket="archive", Key="segment", Body=b"2", IfNoneMatch="*")),
    ("multipart", multipart),
    ("copy", lambda: s3.copy_object(Bucket="archive", Key="segment", CopySource="archive/sha256",
                                    IfNoneMatch="*")),
):
    answer = done(call)
    held = s3.get_object(Bucket="archive", Key="segment")["Body"].read()
    print(f"second creation by {name}: {answer}, holds {held.decode()}")
server.stop()
PY
venv/bin/python store.py 2>log | grep -v HTTP/1.1 >seen || { cat log >&2; exit 1; }

cat >expected <<'TXT'
sha256: put done, read with checks done, head tells no checksum
crc32: put done, read with checks done, head tells no checksum
md5: put done, read with checks done, head tells ChecksumCRC32
second creation by put: ClientError PreconditionFailed, holds first
second creation by multipart: ClientError PreconditionFailed, holds first
second creation by copy: done, holds bytes
TXT
if ! diff -u expected seen; then
  echo "changed: the double checks sums or preconditions in another way" >&2
  exit 1
fi
cat seen
echo "as recorded: a double that keeps wrong checksums and lets copies go over objects"
