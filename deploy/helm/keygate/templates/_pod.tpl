{{/* The template of the pods that serve. */}}
{{- define "keygate.pod" -}}
metadata:
  labels:
    {{- include "keygate.serverLabels" . | nindent 4 }}
    {{- with .Values.podLabels }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  annotations:
    # A change of the configuration, or of a Secret of this chart, replaces the pods.
    checksum/config: {{ include "keygate.config" . | sha256sum }}
    checksum/secrets: {{ toJson .Values.secrets | sha256sum }}
    {{- with .Values.podAnnotations }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
spec:
  serviceAccountName: {{ include "keygate.serviceAccount" . }}
  automountServiceAccountToken: false
  # The variables that Kubernetes sets for a Service named keygate begin with KEYGATE_.
  enableServiceLinks: false
  {{- with .Values.imagePullSecrets }}
  imagePullSecrets: {{- toYaml . | nindent 4 }}
  {{- end }}
  securityContext: {{- toYaml .Values.podSecurityContext | nindent 4 }}
  terminationGracePeriodSeconds: {{ add .Values.shutdown.delay .Values.shutdown.grace 10 }}
  {{- if include "keygate.hasJob" . }}
  initContainers:
    # Serving needs the tables of this version.
    - name: wait-for-migrations
      image: {{ include "keygate.image" . }}
      imagePullPolicy: {{ .Values.image.pullPolicy }}
      args: [migrate, status, --block]
      env:
        {{- include "keygate.secretVariable" (dict "root" . "variable" "KEYGATE_DB_DSN" "entry" .Values.secrets.database) | nindent 8 }}
        {{- with .Values.extraEnv }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
      {{- with .Values.extraVolumeMounts }}
      volumeMounts: {{- toYaml . | nindent 8 }}
      {{- end }}
      securityContext: {{- toYaml .Values.securityContext | nindent 8 }}
      resources: {{- toYaml .Values.migrations.resources | nindent 8 }}
  {{- end }}
  containers:
    - name: keygate
      image: {{ include "keygate.image" . }}
      imagePullPolicy: {{ .Values.image.pullPolicy }}
      args: [serve, --config, /etc/keygate/keygate.yaml]
      env: {{- include "keygate.environment" . | nindent 8 }}
      ports:
        {{- if .Values.gateway.enabled }}
        - { name: gateway, containerPort: {{ .Values.gateway.port }} }
        {{- end }}
        {{- if .Values.externalAuth.enabled }}
        - { name: external-auth, containerPort: {{ .Values.externalAuth.port }} }
        {{- end }}
        {{- if .Values.admin.service.enabled }}
        - { name: admin, containerPort: {{ .Values.admin.port }} }
        {{- end }}
        - { name: metrics, containerPort: {{ .Values.metrics.port }} }
      {{- range $name, $probe := .Values.probes }}
      {{ $name }}Probe:
        httpGet: { path: {{ $probe.path }}, port: metrics }
        {{- toYaml (omit $probe "path") | nindent 8 }}
      {{- end }}
      lifecycle:
        # Requests arrive until every proxy has learned that the pod ends; only then SIGTERM closes the listeners.
        preStop: { sleep: { seconds: {{ .Values.shutdown.delay }} } }
      securityContext: {{- toYaml .Values.securityContext | nindent 8 }}
      resources: {{- toYaml .Values.resources | nindent 8 }}
      volumeMounts:
        - { name: config, mountPath: /etc/keygate, readOnly: true }
        {{- if .Values.gateway.tls.existingSecret }}
        - { name: tls, mountPath: /etc/keygate-tls, readOnly: true }
        {{- end }}
        {{- if .Values.admin.tls.existingSecret }}
        - { name: admin-tls, mountPath: /etc/keygate-admin-tls, readOnly: true }
        {{- end }}
        {{- if include "keygate.isSet" .Values.secrets.signingKeys }}
        - { name: signing-keys, mountPath: /etc/keygate-signing-keys, readOnly: true }
        {{- end }}
        {{- if .Values.persistence.enabled }}
        - { name: data, mountPath: /var/lib/keygate }
        {{- end }}
        {{- with .Values.extraVolumeMounts }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
  volumes:
    - name: config
      configMap: { name: {{ include "keygate.fullname" . }} }
    {{- with .Values.gateway.tls.existingSecret }}
    - name: tls
      secret: { secretName: {{ . }} }
    {{- end }}
    {{- with .Values.admin.tls.existingSecret }}
    - name: admin-tls
      secret: { secretName: {{ . }} }
    {{- end }}
    {{- with .Values.secrets.signingKeys }}
    {{- if include "keygate.isSet" . }}
    - name: signing-keys
      secret:
        secretName: {{ .existingSecret | default (include "keygate.fullname" $) }}
        items: [{ key: {{ .key }}, path: {{ .key }} }]
    {{- end }}
    {{- end }}
    {{- if .Values.persistence.enabled }}
    - name: data
      persistentVolumeClaim: { claimName: {{ .Values.persistence.existingClaim | default (include "keygate.fullname" .) }} }
    {{- end }}
    {{- with .Values.extraVolumes }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  topologySpreadConstraints:
    {{- range .Values.topologySpreadConstraints }}
    - {{- toYaml . | nindent 6 }}
      {{- if not .labelSelector }}
      labelSelector:
        matchLabels: {{- include "keygate.serverLabels" $ | nindent 10 }}
      {{- end }}
    {{- end }}
  {{- with .Values.affinity }}
  affinity: {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.nodeSelector }}
  nodeSelector: {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.tolerations }}
  tolerations: {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.priorityClassName }}
  priorityClassName: {{ . }}
  {{- end }}
{{- end -}}

{{- define "keygate.environment" -}}
{{- $variables := dict
  "KEYGATE_SECRETS_HMAC_CURRENT" .Values.secrets.hmac
  "KEYGATE_SECRETS_HMAC_RETIRED" .Values.secrets.hmacRetired
  "KEYGATE_DB_DSN" .Values.secrets.database
  "KEYGATE_CACHE_REDIS_PASSWORD" .Values.secrets.redisPassword
  "KEYGATE_SERVE_HTTP_AUTH_BOOTSTRAP_KEY" .Values.secrets.adminKey }}
{{- range $variable, $entry := $variables }}
{{- if include "keygate.isSet" $entry }}
{{ include "keygate.secretVariable" (dict "root" $ "variable" $variable "entry" $entry) }}
{{- end }}
{{- end }}
{{- with .Values.extraEnv }}
{{ toYaml . }}
{{- end }}
{{- end -}}
