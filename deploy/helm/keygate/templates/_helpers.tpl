{{- define "keygate.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{/* At most 45 characters, which leaves room for the suffixes of other objects. */}}
{{- define "keygate.fullname" -}}
{{- $name := include "keygate.name" . -}}
{{- $full := ternary .Release.Name (printf "%s-%s" .Release.Name $name) (contains $name .Release.Name) -}}
{{- default $full .Values.fullnameOverride | trunc 45 | trimSuffix "-" -}}
{{- end -}}

{{- define "keygate.selectorLabels" -}}
app.kubernetes.io/name: {{ include "keygate.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "keygate.labels" -}}
{{ include "keygate.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end -}}

{{/* The pods that serve: the Job and the test have another component. */}}
{{- define "keygate.serverLabels" -}}
{{ include "keygate.selectorLabels" . }}
app.kubernetes.io/component: server
{{- end -}}

{{- define "keygate.image" -}}
{{- with .Values.image -}}
{{- if .digest -}}
{{ .repository }}@{{ .digest }}
{{- else -}}
{{ .repository }}:{{ .tag | default $.Chart.AppVersion }}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "keygate.serviceAccount" -}}
{{- default (ternary (include "keygate.fullname" .) "default" .Values.serviceAccount.create) .Values.serviceAccount.name -}}
{{- end -}}

{{/* The address to listen on, as a part of ADDRESS:PORT. */}}
{{- define "keygate.listen" -}}
{{- if contains ":" .Values.listenAddress -}}
[{{ .Values.listenAddress }}]
{{- else -}}
{{ .Values.listenAddress }}
{{- end -}}
{{- end -}}

{{/* Whether a secret is set: a text that is empty if not. The argument is the entry of .Values.secrets. */}}
{{- define "keygate.isSet" -}}
{{- if or .value .existingSecret -}}yes{{- end -}}
{{- end -}}

{{/* An environment variable from a secret: dict "root" $ "variable" NAME "entry" ENTRY-OF-.Values.secrets. */}}
{{- define "keygate.secretVariable" -}}
{{- if include "keygate.isSet" .entry -}}
- name: {{ .variable }}
  valueFrom:
    secretKeyRef:
      name: {{ .entry.existingSecret | default (include "keygate.fullname" .root) }}
      key: {{ .entry.key }}
{{- end -}}
{{- end -}}

{{/* Whether a migration Job is made. */}}
{{- define "keygate.hasJob" -}}
{{- if and (eq .Values.migrations.mode "job") (not .Values.persistence.enabled) -}}yes{{- end -}}
{{- end -}}

{{/* Combinations of values that cannot work. values.schema.json has the rules for single values. */}}
{{- define "keygate.check" -}}
{{- $secrets := .Values.secrets -}}
{{- if not (include "keygate.isSet" $secrets.hmac) -}}
{{- fail "secrets.hmac.existingSecret (or secrets.hmac.value) is required; create one with: kubectl create secret generic keygate --from-literal=hmac=$(openssl rand -hex 32)" -}}
{{- end -}}
{{- $hasDatabase := include "keygate.isSet" $secrets.database -}}
{{- if and (not $hasDatabase) (not .Values.persistence.enabled) -}}
{{- fail "secrets.database.existingSecret is required: a Secret with the DSN of PostgreSQL; for one node with SQLite set persistence.enabled" -}}
{{- end -}}
{{- if .Values.persistence.enabled -}}
{{- if $hasDatabase -}}
{{- fail "persistence.enabled is for SQLite; remove it, or secrets.database" -}}
{{- end -}}
{{- if or (gt (int .Values.replicas) 1) .Values.autoscaling.enabled (ne .Values.kind "Deployment") -}}
{{- fail "persistence.enabled stores keys in a file of one pod: set kind: Deployment, replicas: 1 and autoscaling.enabled: false" -}}
{{- end -}}
{{- end -}}
{{- if and .Values.autoscaling.enabled (ne .Values.kind "Deployment") -}}
{{- fail "autoscaling.enabled needs kind: Deployment" -}}
{{- end -}}
{{- if and (not .Values.gateway.enabled) (not .Values.externalAuth.enabled) -}}
{{- fail "enable gateway.enabled, externalAuth.enabled or both" -}}
{{- end -}}
{{- if and .Values.externalAuth.enabled (not .Values.externalAuth.trustedPeers) -}}
{{- fail "externalAuth.trustedPeers is required: the address ranges of the pods of the proxy; other peers get 403" -}}
{{- end -}}
{{- end -}}
