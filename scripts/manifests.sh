#!/usr/bin/env bash
# Writes the plain manifests, which the Helm chart makes with its default values, to the file $1.
# The image has no digest there that exists: whoever applies them names the image.
set -euo pipefail
cd "$(dirname "$0")/.."
out=$1
{
  echo "# Made from deploy/kubernetes/chart by make manifests. Replace the image: docs/kubernetes.md"
  HELM_CACHE_HOME=/nonexistent HELM_CONFIG_HOME=/nonexistent HELM_DATA_HOME=/nonexistent out/bin/helm template colophon deploy/kubernetes/chart \
    --kube-version 1.36.0 --namespace colophon --set createNamespace=true --set image="registry.example.com/colophond@sha256:$(printf '0%.0s' {1..64})"
} >"$out.new"
mv "$out.new" "$out"
