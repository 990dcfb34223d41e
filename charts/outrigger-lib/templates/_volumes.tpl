{{- /* Volumes of the pod and their mounts. All of them are directories: the kubelet brings changes into these alone. */ -}}

{{- /* One volume out of a ConfigMap with definitions: (dict "name" projections "object" NAME) */ -}}
{{- define "outrigger-lib.configMapVolume" -}}
- name: outrigger-{{ .name }}
  configMap:
    name: {{ .object }}
    defaultMode: 292 # 0444
{{- end -}}

{{- /* The same out of a Secret, which the pod's group may read. */ -}}
{{- define "outrigger-lib.secretVolume" -}}
- name: outrigger-{{ .name }}
  secret:
    secretName: {{ .object }}
    defaultMode: 288 # 0440
    {{- with .items }}
    items:
      {{- range . }}
      - key: {{ . }}
        path: {{ . }}
      {{- end }}
    {{- end }}
{{- end -}}

{{- /* (dict "root" $ "what" projections) */ -}}
{{- define "outrigger-lib.definitionsObject" -}}
{{- $values := index .root.Values.outrigger .what -}}
{{- default (printf "%s-%s" (include "outrigger-lib.fullname" .root) .what) $values.existingConfigMap -}}
{{- end -}}

{{- define "outrigger-lib.dataVolume" -}}
- name: outrigger-data
{{- with .Values.outrigger.persistence }}
{{- if not .enabled }}
  emptyDir:
    sizeLimit: {{ .emptyDirSize }}
{{- else }}
  persistentVolumeClaim:
    claimName: {{ default (printf "%s-data" (include "outrigger-lib.fullname" $)) .existingClaim }}
{{- end }}
{{- end }}
{{- end -}}

{{- define "outrigger-lib.volumes" -}}
{{- $values := .Values.outrigger -}}
{{ include "outrigger-lib.dataVolume" . }}
{{ include "outrigger-lib.configMapVolume" (dict "name" "config" "object" (printf "%s-config" (include "outrigger-lib.fullname" .))) }}
{{ include "outrigger-lib.configMapVolume" (dict "name" "projections" "object" (include "outrigger-lib.definitionsObject" (dict "root" . "what" "projections"))) }}
{{- range $what := list "exports" "imports" }}
{{- if include "outrigger-lib.hasFiles" (index $values $what) }}
{{ include "outrigger-lib.configMapVolume" (dict "name" $what "object" (include "outrigger-lib.definitionsObject" (dict "root" $ "what" $what))) }}
{{- end }}
{{- end }}
{{- with $values.grpc }}
{{- if .tokens.existingSecret }}
{{ include "outrigger-lib.secretVolume" (dict "name" "tokens" "object" .tokens.existingSecret "items" (list .tokens.fileKey)) }}
{{- end }}
{{- if .tls.existingSecret }}
{{ include "outrigger-lib.secretVolume" (dict "name" "tls" "object" .tls.existingSecret) }}
{{- end }}
{{- if .socket }}
- name: outrigger-run
  emptyDir: {}
{{- end }}
{{- end }}
{{- with $values.mesh }}
{{- if .nats.credsSecret }}
{{ include "outrigger-lib.secretVolume" (dict "name" "nats" "object" .nats.credsSecret "items" (list .nats.credsKey)) }}
{{- end }}
{{- if .keySecret }}
{{ include "outrigger-lib.secretVolume" (dict "name" "mesh-key" "object" .keySecret "items" (list .keyKey)) }}
{{- end }}
{{- if .trust.existingConfigMap }}
{{ include "outrigger-lib.configMapVolume" (dict "name" "trust" "object" .trust.existingConfigMap) }}
{{- else if .trust.existingSecret }}
{{ include "outrigger-lib.secretVolume" (dict "name" "trust" "object" .trust.existingSecret "items" (list .trust.key)) }}
{{- end }}
{{- end }}
{{- end -}}

{{- define "outrigger-lib.mount" -}}
- name: outrigger-{{ . }}
  mountPath: /etc/outrigger/{{ . }}
  readOnly: true
{{- end -}}

{{- define "outrigger-lib.volumeMounts" -}}
{{- $values := .Values.outrigger -}}
- name: outrigger-data
  mountPath: /var/lib/outrigger
{{ include "outrigger-lib.mount" "config" }}
{{ include "outrigger-lib.mount" "projections" }}
{{- range $what := list "exports" "imports" }}
{{- if include "outrigger-lib.hasFiles" (index $values $what) }}
{{ include "outrigger-lib.mount" $what }}
{{- end }}
{{- end }}
{{- if $values.grpc.tokens.existingSecret }}
{{ include "outrigger-lib.mount" "tokens" }}
{{- end }}
{{- if $values.grpc.tls.existingSecret }}
{{ include "outrigger-lib.mount" "tls" }}
{{- end }}
{{- if $values.grpc.socket }}
{{ include "outrigger-lib.socketMount" . }}
{{- end }}
{{- if $values.mesh.nats.credsSecret }}
{{ include "outrigger-lib.mount" "nats" }}
{{- end }}
{{- if $values.mesh.keySecret }}
{{ include "outrigger-lib.mount" "mesh-key" }}
{{- end }}
{{- if or $values.mesh.trust.existingConfigMap $values.mesh.trust.existingSecret }}
{{ include "outrigger-lib.mount" "trust" }}
{{- end }}
{{- with $values.extraVolumeMounts }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- /* Also for the service's container where `grpc.socket` is set. */ -}}
{{- define "outrigger-lib.socketMount" -}}
- name: outrigger-run
  mountPath: /run/outrigger
{{- end -}}
