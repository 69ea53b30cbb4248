{{/* What the pods of exporter and Flower share: (list $ "exporter"). */}}
{{- define "celery-observe.pod" -}}
{{- $root := index . 0 -}}
{{- $values := $root.Values -}}
serviceAccountName: {{ include "celery-observe.serviceAccount" $root }}
automountServiceAccountToken: false
enableServiceLinks: false
{{- with $values.imagePullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with $values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
securityContext:
  {{- toYaml $values.podSecurityContext | nindent 2 }}
{{- end -}}

{{/* The environment of the exporter. */}}
{{- define "celery-observe.environment" -}}
- name: CELERY_OBSERVE_BROKER
  valueFrom:
    secretKeyRef:
      name: {{ include "celery-observe.brokerSecret" . }}
      key: {{ .Values.broker.secretKey }}
- name: CELERY_OBSERVE_HOST
  value: 0.0.0.0
- name: CELERY_OBSERVE_PORT
  value: {{ .Values.service.port | quote }}
- name: CELERY_OBSERVE_STATE_FILE
  value: /var/lib/celery-observe/state.json
{{- if gt (int .Values.shards) 1 }}
- name: CELERY_OBSERVE_SHARD
  value: auto/{{ .Values.shards }}
{{- end }}
{{- if and (gt (max (int .Values.replicas) (int .Values.shards)) 1) (not (hasKey .Values.settings "probe")) }}
- name: CELERY_OBSERVE_PROBE
  value: leader
{{- end }}
{{- if .Values.broker.tls.existingSecret }}
{{- range $name, $key := dict "CA" .Values.broker.tls.caKey "CERT" .Values.broker.tls.certKey "KEY" .Values.broker.tls.keyKey }}
{{- if $key }}
- name: CELERY_OBSERVE_BROKER_TLS_{{ $name }}_FILE
  value: /etc/celery-observe/broker-tls/{{ $key }}
{{- end }}
{{- end }}
{{- end }}
{{- if .Values.tls.existingSecret }}
{{- range $name, $key := dict "CERT" .Values.tls.certKey "KEY" .Values.tls.keyKey "CLIENT_CA" .Values.tls.clientCaKey }}
{{- if $key }}
- name: CELERY_OBSERVE_TLS_{{ $name }}_FILE
  value: /etc/celery-observe/tls/{{ $key }}
{{- end }}
{{- end }}
{{- end }}
{{- if .Values.auth.existingSecret }}
{{- range $name, $key := dict "BASIC_AUTH" .Values.auth.basicKey "BEARER_TOKEN" .Values.auth.bearerKey }}
{{- if $key }}
- name: CELERY_OBSERVE_{{ $name }}_FILE
  value: /etc/celery-observe/auth/{{ $key }}
{{- end }}
{{- end }}
{{- end }}
{{- with .Values.extraEnv }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* The Secrets that are mounted: their folder → their name. */}}
{{- define "celery-observe.secrets" -}}
{{- range $folder, $secret := dict "auth" .Values.auth.existingSecret "broker-tls" .Values.broker.tls.existingSecret "tls" .Values.tls.existingSecret }}
{{- if $secret }}
{{ $folder }}: {{ $secret }}
{{- end }}
{{- end }}
{{- end -}}

{{/* How Kubernetes asks the exporter for a path: (list $ "/healthz"). One that demands certificates is asked by itself. */}}
{{- define "celery-observe.probe" -}}
{{- $root := index . 0 -}}
{{- $tls := $root.Values.tls -}}
{{- if and $tls.existingSecret $tls.clientCaKey -}}
tcpSocket:
  port: metrics
{{- else -}}
httpGet:
  path: {{ index . 1 }}
  port: metrics
  scheme: {{ ternary "HTTPS" "HTTP" (not (empty $tls.existingSecret)) }}
{{- end }}
timeoutSeconds: 3
{{- end -}}
