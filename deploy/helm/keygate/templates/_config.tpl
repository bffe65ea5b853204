{{/* The settings that follow from the values. */}}
{{- define "keygate.baseConfig" -}}
serve:
  http:
    host: {{ ternary .Values.listenAddress "127.0.0.1" .Values.admin.service.enabled | quote }}
    port: {{ .Values.admin.port }}
    shutdown_grace: {{ .Values.shutdown.grace }}s
    {{- if .Values.admin.tls.existingSecret }}
    tls:
      certificates:
        - certificate: /etc/keygate-admin-tls/tls.crt
          key: /etc/keygate-admin-tls/tls.key
    {{- end }}
  metrics:
    host: {{ .Values.listenAddress | quote }}
    port: {{ .Values.metrics.port }}
credentials:
  issuer: {{ required "issuer is required: the iss of derived tokens, for example https://keys.example.com" .Values.issuer | quote }}
  {{- if include "keygate.isSet" .Values.secrets.signingKeys }}
  derived_tokens:
    jwt:
      signing_keys:
        urls: ["file:///etc/keygate-signing-keys/{{ .Values.secrets.signingKeys.key }}"]
  {{- end }}
db:
  {{- if .Values.persistence.enabled }}
  dsn: sqlite:///var/lib/keygate/keygate.db
  {{- end }}
  auto_migrate: {{ eq .Values.migrations.mode "auto" }}
gateway:
  enabled: {{ .Values.gateway.enabled }}
  shutdown_grace: {{ .Values.shutdown.grace }}s
  {{- if .Values.gateway.enabled }}
  listeners:
    - address: "{{ include "keygate.listen" . }}:{{ .Values.gateway.port }}"
      trusted_proxies: {{ toJson .Values.gateway.trustedProxies }}
      {{- if .Values.gateway.tls.existingSecret }}
      tls:
        certificates:
          - certificate: /etc/keygate-tls/tls.crt
            key: /etc/keygate-tls/tls.key
      {{- end }}
  {{- end }}
{{- if .Values.externalAuth.enabled }}
external_auth:
  address: "{{ include "keygate.listen" . }}:{{ .Values.externalAuth.port }}"
  trusted_peers: {{ toJson .Values.externalAuth.trustedPeers }}
  shutdown_grace: {{ .Values.shutdown.grace }}s
{{- end }}
{{- end -}}

{{/* keygate.yaml: the settings that follow from the values, and .Values.config over them. */}}
{{- define "keygate.config" -}}
{{- $base := include "keygate.baseConfig" . | fromYaml -}}
{{- toYaml (mustMergeOverwrite $base (deepCopy .Values.config)) -}}
{{- end -}}
