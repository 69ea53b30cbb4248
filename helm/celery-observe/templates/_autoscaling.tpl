{{/* What is asked of Prometheus, as docs/autoscaling.md says; tests feed it from real workers. */}}

{{/* The matchers of the queues of a worker: (list $ $worker). Names are quoted, for they stand in a regular expression. */}}
{{- define "celery-observe.matchers" -}}
{{- $root := index . 0 -}}
{{- $worker := index . 1 -}}
{{- $names := list -}}
{{- range $worker.queues }}{{ $names = append $names (regexQuoteMeta . | replace "\\" "\\\\") }}{{ end -}}
queue=~"{{ join "|" $names }}"{{ with $root.Values.autoscaling.matchers }},{{ . }}{{ end }}
{{- end -}}

{{/* The query of a worker: (list $ $worker). Absent, not 0, when the broker cannot be read. */}}
{{- define "celery-observe.query" -}}
{{- $worker := index . 1 -}}
{{- $matchers := include "celery-observe.matchers" . -}}
{{- if eq $worker.by "desired_slots" -}}
sum(max by (queue) (celery_queue_desired_slots{ {{- $matchers -}} }))
{{- else -}}
sum(max by (queue, priority) (celery_queue_waiting{ {{- $matchers -}} })) + max(sum by (__name__) (max by (__name__, queue, task) ({__name__=~"celery_queue_in_flight|celery_task_running",{{ $matchers }}})) or vector(0))
{{- end -}}
{{- end -}}

{{/* A worker with the defaults of all: (list $ $worker). */}}
{{- define "celery-observe.worker" -}}
{{- $root := index . 0 -}}
{{- merge (dict) (index . 1) $root.Values.autoscaling.defaults | toYaml -}}
{{- end -}}

{{/* How fast a worker's replicas come and go. */}}
{{- define "celery-observe.behavior" -}}
scaleUp:
  stabilizationWindowSeconds: 0
scaleDown:
  stabilizationWindowSeconds: {{ .stabilizationWindowSeconds }}
  policies:
    - type: Percent
      value: {{ .scaleDownPercent }}
      periodSeconds: 60
{{- end -}}
