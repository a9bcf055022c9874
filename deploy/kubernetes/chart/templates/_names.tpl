{{- define "colophon.labels" -}}
app.kubernetes.io/name: colophon
app.kubernetes.io/component: admission
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end }}

{{- define "colophon.selector" -}}
app.kubernetes.io/name: colophon
app.kubernetes.io/component: admission
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- /* The image of what decides about images is named by digest. */ -}}
{{- define "colophon.image" -}}
{{- if not (regexMatch "^[^@ ]+@sha256:[0-9a-f]{64}$" .Values.image) }}
{{- fail (printf "image: expected REPOSITORY@sha256:HEX, found %q" .Values.image) }}
{{- end }}
{{- .Values.image }}
{{- end }}

{{- /* The namespaces that are left alone, as JSON. */ -}}
{{- define "colophon.exempt" -}}
{{ append .Values.exemptNamespaces .Release.Namespace | uniq | toJson }}
{{- end }}

{{- /* What both webhooks are asked about, and what not. */ -}}
{{- define "colophon.webhook" -}}
failurePolicy: Fail
matchPolicy: Equivalent
sideEffects: NoneOnDryRun
timeoutSeconds: {{ .Values.webhook.timeoutSeconds }}
admissionReviewVersions: [v1]
namespaceSelector:
  matchExpressions:
    - key: kubernetes.io/metadata.name
      operator: NotIn
      values: {{ include "colophon.exempt" . }}
{{- end }}

{{- define "colophon.rules" -}}
rules:
  - {apiGroups: [""], apiVersions: [v1], resources: [pods, pods/ephemeralcontainers, replicationcontrollers], operations: [CREATE, UPDATE], scope: Namespaced}
  - {apiGroups: [apps], apiVersions: [v1], resources: [deployments, replicasets, statefulsets, daemonsets], operations: [CREATE, UPDATE], scope: Namespaced}
  - {apiGroups: [batch], apiVersions: [v1], resources: [jobs, cronjobs], operations: [CREATE, UPDATE], scope: Namespaced}
{{- end }}

{{- /* Some custom resources are of no namespace, as the packages of Crossplane. */ -}}
{{- define "colophon.customRules" -}}
rules:
{{- range .Files.Get "kinds.json" | fromJsonArray }}
{{- if and .set (has .set $.Values.webhook.kinds) }}
  - {apiGroups: [{{ .group | quote }}], apiVersions: {{ toJson .versions }}, resources: [{{ .resource | quote }}], operations: [CREATE, UPDATE], scope: "*"}
{{- end }}
{{- end }}
{{- range .Values.webhook.customResources }}
  - {apiGroups: [{{ .group | quote }}], apiVersions: [{{ .version | quote }}], resources: [{{ .resource | quote }}], operations: [CREATE, UPDATE], scope: "*"}
{{- end }}
{{- end }}

{{- define "colophon.client" -}}
clientConfig:
  service: {namespace: {{ .Release.Namespace }}, name: colophon-admission, port: 443, path: {{ .path }}}
{{- end }}

{{- /* The configuration file of the webhook: the values that decide about it, and config. */ -}}
{{- define "colophon.config" -}}
{{- $config := deepCopy .Values.config }}
{{- $_ := set $config "exempt" (include "colophon.exempt" . | fromJsonArray) }}
{{- if .Values.dryRun }}{{ $_ := set $config "dryRun" true }}{{ end }}
{{- if .Values.remember }}{{ $_ := set $config "remember" true }}{{ end }}
{{- if .Values.certManager.enabled }}
{{- $_ := set $config "tls" (dict "certificate" "/etc/colophon-tls/tls.crt" "key" "/etc/colophon-tls/tls.key") }}
{{- end }}
{{- if .Values.clusterImagePolicies.enabled }}
{{- $_ := set $config "clusterImagePolicies" (omit .Values.clusterImagePolicies "enabled") }}
{{- end }}
{{- $_ := set $config "eviction" .Values.eviction }}
{{- if .Values.ahead.platformSecret }}{{ $_ := set $config "platform" "/etc/colophon-platform/client.json" }}{{ end }}
{{- if .Values.ahead.list }}
{{- $_ := set $config "list" (dict "from" .Values.ahead.list "authors" "/etc/colophon-authors/policy-authors.json") }}
{{- end }}
{{- if .Values.distrust.issuers }}{{ $_ := set $config "distrust" (dict "issuers" "/etc/colophon/issuers.json" "dir" "/tmp/lists") }}{{ end }}
{{- with .Values.audit }}
{{- if .ledger }}
{{- $_ := set $config "audit" (merge (dict "key" "/etc/colophon-audit/key.pem" "spool" "/var/lib/colophon-audit/spool") (omit . "keySecret")) }}
{{- end }}
{{- end }}
{{- $images := dict }}
{{- range .Values.webhook.customResources }}
{{- /* Without fields, nothing is said of the kind: an object of it without containers is refused. */ -}}
{{- if hasKey . "fields" }}{{ $_ := set $images (printf "%s.%s" .kind .group) .fields }}{{ end }}
{{- end }}
{{- if $images }}{{ $_ := set $config "images" $images }}{{ end }}
{{- toYaml $config }}
{{- end }}
