{{- /* Whole objects: ConfigMaps, the claim, the Service. */ -}}

{{- /* (dict "root" $ "name" N "files" MAP) */ -}}
{{- define "outrigger-lib.configMap" -}}
apiVersion: v1
kind: ConfigMap
metadata:
  name: {{ .name }}
  labels:
    {{- include "outrigger-lib.labels" .root | nindent 4 }}
data:
  {{- toYaml .files | nindent 2 }}
{{- end -}}

{{- define "outrigger-lib.claim" -}}
{{- with .Values.outrigger.persistence -}}
apiVersion: v1
kind: PersistentVolumeClaim
metadata:
  name: {{ include "outrigger-lib.fullname" $ }}-data
  labels:
    {{- include "outrigger-lib.labels" $ | nindent 4 }}
  {{- if or .keep .annotations }}
  annotations:
    {{- if .keep }}
    helm.sh/resource-policy: keep
    {{- end }}
    {{- with .annotations }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  {{- end }}
spec:
  accessModes:
    {{- toYaml .accessModes | nindent 4 }}
  resources:
    requests:
      storage: {{ .size }}
  {{- with .storageClass }}
  storageClassName: {{ . | quote }}
  {{- end }}
{{- end -}}
{{- end -}}

{{- /* (dict "root" $ "selector" LABELS): probes and metrics, and gRPC where other pods may call. */ -}}
{{- define "outrigger-lib.service" -}}
{{- $values := .root.Values.outrigger -}}
apiVersion: v1
kind: Service
metadata:
  name: {{ include "outrigger-lib.fullname" .root }}
  labels:
    {{- include "outrigger-lib.labels" .root | nindent 4 }}
spec:
  selector:
    {{- toYaml .selector | nindent 4 }}
  ports:
    {{- if include "outrigger-lib.exposed" .root }}
    - name: grpc
      port: {{ int $values.grpc.port }}
      targetPort: {{ int $values.grpc.port }}
      protocol: TCP
      {{- if not $values.grpc.tls.existingSecret }}
      appProtocol: kubernetes.io/h2c
      {{- end }}
    {{- end }}
    - name: http-outrigger
      port: {{ int $values.http.port }}
      targetPort: {{ int $values.http.port }}
      protocol: TCP
{{- end -}}

{{- /* Everything a node needs beside its pod, as one stream of documents: (dict "root" $ "selector" LABELS-OF-THE-POD) */ -}}
{{- define "outrigger-lib.manifests" -}}
{{- $root := .root -}}
{{- $values := $root.Values.outrigger -}}
{{ include "outrigger-lib.configMap" (dict "root" $root "name" (printf "%s-config" (include "outrigger-lib.fullname" $root)) "files" (dict "outrigger.yaml" (include "outrigger-lib.config" $root))) }}
{{- if not $values.projections.existingConfigMap }}
---
{{ include "outrigger-lib.configMap" (dict "root" $root "name" (printf "%s-projections" (include "outrigger-lib.fullname" $root)) "files" $values.projections.files) }}
{{- end }}
{{- range $what := list "exports" "imports" }}
{{- $definitions := index $values $what }}
{{- if and $definitions.files (not $definitions.existingConfigMap) }}
---
{{ include "outrigger-lib.configMap" (dict "root" $root "name" (printf "%s-%s" (include "outrigger-lib.fullname" $root) $what) "files" $definitions.files) }}
{{- end }}
{{- end }}
{{- if and $values.persistence.enabled (not $values.persistence.existingClaim) }}
---
{{ include "outrigger-lib.claim" $root }}
{{- end }}
---
{{ include "outrigger-lib.service" . }}
{{- end -}}
