{{/*
For the pods of your workers, in a chart that depends on this one; `$observe` is what this chart sees:

  {{- $observe := index .Subcharts "celery-observe" }}
  spec:
    terminationGracePeriodSeconds: 600          # the longest task, and a little
    initContainers:
      {{- include "celery-observe.sidecar" $observe | nindent 6 }}
    containers:
      - name: worker
        env:
          {{- include "celery-observe.sidecar.env" $observe | nindent 10 }}
        volumeMounts:
          {{- include "celery-observe.sidecar.volumeMount" $observe | nindent 10 }}
    volumes:
      {{- include "celery-observe.sidecar.volume" $observe | nindent 6 }}

It is an init container that goes on (Kubernetes 1.29): it is there before the worker's first task and after its last.
*/}}
{{- define "celery-observe.sidecar" -}}
{{- $sidecar := .Values.sidecar -}}
- name: celery-observe
  image: {{ include "celery-observe.image" . | quote }}
  imagePullPolicy: {{ .Values.image.pullPolicy }}
  restartPolicy: Always
  args: [run]
  env:
    - name: CELERY_OBSERVE_LISTEN
      value: {{ include "celery-observe.socket" . }}
    - name: CELERY_OBSERVE_HOST
      value: 0.0.0.0
    - name: CELERY_OBSERVE_PORT
      value: {{ $sidecar.port | quote }}
    - name: CELERY_OBSERVE_LOG_FORMAT
      value: json
    {{- range $name, $value := $sidecar.settings }}
    - name: CELERY_OBSERVE_{{ $name | upper }}
      value: {{ include "celery-observe.value" $value | quote }}
    {{- end }}
  ports:
    - name: celery-observe
      containerPort: {{ $sidecar.port }}
  startupProbe:
    tcpSocket:
      port: celery-observe
    periodSeconds: 1
    failureThreshold: 60
  securityContext:
    {{- toYaml .Values.securityContext | nindent 4 }}
  resources:
    {{- toYaml $sidecar.resources | nindent 4 }}
  volumeMounts:
    {{- include "celery-observe.sidecar.volumeMount" . | nindent 4 }}
{{- end -}}

{{- define "celery-observe.socket" -}}
unix://{{ .Values.sidecar.socketFolder }}/celery-observe.sock
{{- end -}}

{{- define "celery-observe.sidecar.env" -}}
- name: CELERY_OBSERVE_SIDECAR
  value: {{ include "celery-observe.socket" . }}
{{- end -}}

{{- define "celery-observe.sidecar.volumeMount" -}}
- name: celery-observe
  mountPath: {{ .Values.sidecar.socketFolder }}
{{- end -}}

{{- define "celery-observe.sidecar.volume" -}}
- name: celery-observe
  emptyDir: { sizeLimit: 1Mi }
{{- end -}}
