#!/bin/bash
# Makes the layouts of this directory in an empty directory, with stock cosign (v3.1.3)
# and crane in the directory $1, against a loopback registry.
set -e
bin=$1 host=127.0.0.1:5917
export HOME=$PWD COSIGN_PASSWORD=
mkdir fs && echo hi >fs/a && tar cf fs.tar -C fs a && echo '{"x":1}' >pred.json
$bin/cosign generate-key-pair
$bin/cosign signing-config create --out sc.json
$bin/crane registry serve --address $host >registry.log 2>&1 & registry=$!
trap 'kill $registry' EXIT
sleep 2
$bin/crane append -f fs.tar -t $host/app:v1 --oci-empty-base
for arch in amd64 arm64; do $bin/crane mutate $host/app:v1 --set-platform linux/$arch -t $host/app:$arch; done
$bin/crane index append -m $host/app:amd64 -m $host/app:arm64 -t $host/app:index
$bin/crane copy $host/app:amd64 $host/app:image
for name in image index; do
  for version in v3 v2; do
    flags="--key cosign.key --signing-config sc.json"
    [ $version = v3 ] || flags="--key cosign.key --new-bundle-format=false --use-signing-config=false --tlog-upload=false"
    $bin/crane copy $host/app:$name $host/$version-$name:v1
    image=$host/$version-$name@$($bin/crane digest $host/$version-$name:v1)
    $bin/cosign sign --yes $flags $image
    $bin/cosign attest --yes $flags --type https://example.com/test/v1 --predicate pred.json $image
    $bin/cosign save --dir $version-$name $image
  done
done
