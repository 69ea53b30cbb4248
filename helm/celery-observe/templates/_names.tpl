{{/* Names and labels. What selects pods never changes: it cannot, once a Deployment is there. */}}

{{- define "celery-observe.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 40 | trimSuffix "-" -}}
{{- end -}}

{{- define "celery-observe.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- $name := include "celery-observe.name" . -}}
{{- ternary .Release.Name (printf "%s-%s" .Release.Name $name) (contains $name .Release.Name) | trunc 40 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "celery-observe.flower" -}}
{{- printf "%s-flower" (include "celery-observe.fullname" .) -}}
{{- end -}}

{{- define "celery-observe.serviceAccount" -}}
{{- .Values.serviceAccount.name | default (ternary (include "celery-observe.fullname" .) "default" .Values.serviceAccount.create) -}}
{{- end -}}

{{/* What selects the pods of a component: (list $ "exporter"). */}}
{{- define "celery-observe.selector" -}}
{{- $root := index . 0 -}}
app.kubernetes.io/name: {{ include "celery-observe.name" $root }}
app.kubernetes.io/instance: {{ $root.Release.Name }}
app.kubernetes.io/component: {{ index . 1 }}
{{- end -}}

{{/* The labels of a resource of a component: (list $ "exporter"). */}}
{{- define "celery-observe.labels" -}}
{{- $root := index . 0 -}}
{{ include "celery-observe.selector" . }}
app.kubernetes.io/version: {{ $root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ $root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" $root.Chart.Name $root.Chart.Version | replace "+" "_" }}
{{- with $root.Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* The metadata of a resource: (dict "root" $ "name" … "component" … "labels" {…} "annotations" {…} "namespace" …). */}}
{{- define "celery-observe.metadata" -}}
name: {{ .name }}
namespace: {{ .namespace | default .root.Release.Namespace }}
labels:
  {{- include "celery-observe.labels" (list .root .component) | nindent 2 }}
  {{- with .labels }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- with merge (dict) (.annotations | default dict) .root.Values.commonAnnotations }}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{- define "celery-observe.image" -}}
{{- $image := .Values.image -}}
{{- if $image.digest -}}
{{- printf "%s@%s" $image.repository $image.digest -}}
{{- else -}}
{{- printf "%s:%s" $image.repository ($image.tag | default .Chart.AppVersion) -}}
{{- end -}}
{{- end -}}

{{/* The Secret with the URL of the broker. */}}
{{- define "celery-observe.brokerSecret" -}}
{{- .Values.broker.existingSecret | default (printf "%s-broker" (include "celery-observe.fullname" .)) -}}
{{- end -}}

{{/* A value of a setting, as its environment variable has it. */}}
{{- define "celery-observe.value" -}}
{{- if kindIs "string" . -}}{{ . }}{{- else -}}{{ toJson . }}{{- end -}}
{{- end -}}
